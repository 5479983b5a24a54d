"""All figures and tables of one view as files, with the captions that a paper needs. Nothing in them says when they were made."""

import io
import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import streamlit as st

from engine.errors import RunError
from pages.ui import captions, export, filters, formats, glossary
from pages.ui.export import Collected, Figure, Table
from pages.ui.nav import Screen
from pages.ui.theme import FAMILIES

KINDS = ("PDF", "SVG", "PNG")  # what a paper takes; HTML only where it is asked for
_PAGE = 235.0  # mm, the text of a page of a journal is no higher
_BEGINNING = (1980, 1, 1, 0, 0, 0)  # of time, to a zip

Files = dict[str, bytes]  # path -> content


def offer(screen: Screen) -> None:
    """Once a page is drawn, at its foot: all its figures in one file, which is made when asked for."""
    shown = export.collected()
    shown.query, shown.parameters = _view(), filters.parameters()
    if not shown.figures:
        return
    tables = f" {formats.sentence(formats.counted(len(shown.tables), 'table'))} as CSV and LaTeX." if shown.tables else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button("All figures of this view", data=lambda: zipped(files(screen, shown)), file_name=f"lethe-{screen.name}.zip",
                           mime="application/zip", on_click="ignore", icon=":material/folder_zip:", key="export-all")
        st.caption(f"{formats.sentence(formats.counted(len(shown.figures), 'figure'))} as {formats.listed(KINDS)}, sized for a paper.{tables} "
                   "With captions. Takes a few seconds.")


def _view() -> str:
    """What the address of this view says."""
    return urlencode([(name, value) for name in sorted(st.query_params) if name != glossary.NAME for value in st.query_params.get_all(name)])


def files(screen: Screen, shown: Collected, *, kinds: Sequence[str] = KINDS, millimetres: float | None = None) -> Files:
    """Every figure and table of a view, under a folder with the page's name.

    kinds: of `export.FORMATS`. millimetres: width of all figures; None: one column, or two where panels stand abreast or a page would be too low.
    Raises: RunError naming the figure that could not be drawn.
    """
    made: Files = {}
    widths: dict[str, float] = {}
    for figure in shown.figures.values():
        try:
            widths[figure.name] = millimetres or figure.millimetres
            svg = export.fitted(figure.build, widths[figure.name], figure.panels)
            if millimetres is None and export.height(svg) > _PAGE:
                widths[figure.name] = max(export.WIDTHS.values())
                svg = export.fitted(figure.build, widths[figure.name], figure.panels)
            made |= {f"{figure.name}.{kind.lower()}": export.interactive(figure.build, figure.panels) if kind == "HTML" else export.converted(svg, kind)
                     for kind in kinds}
        except ValueError as error:  # how vl-convert says that it cannot draw something
            raise RunError(f"{figure.name}: this figure of {screen.label} cannot be drawn: {error}") from error
    for table in shown.tables.values():
        made |= {f"{table.name}.csv": table.full.to_csv(index=False).encode(), f"{table.name}.tex": export.latex(table.shown).encode()}
    asked = "".join([f" --format {','.join(map(str.lower, kinds))}" if tuple(kinds) != KINDS else "", f" --width {millimetres:g}" if millimetres else ""])
    command = f"python -m engine export-figures --page {screen.name}{f' --query {shlex.quote(shown.query)}' if shown.query else ''}{asked}"
    address = f"/{'' if screen.name == 'overview' else screen.name}{f'?{shown.query}' if shown.query else ''}"
    sources = {each.studies: captions.made_from(each.studies) for each in _each(shown)}
    made["captions.md"] = _markdown(screen, shown, sources, address, command, widths).encode()
    made["captions.tex"] = _latex(shown, sources, command, widths).encode()
    return {f"{screen.name}/{name}": content for name, content in made.items()}


def zipped(content: Files) -> bytes:
    """The same files give the same bytes."""
    out = io.BytesIO()
    with ZipFile(out, "w") as archive:
        for name in sorted(content):
            entry = ZipInfo(name, _BEGINNING)
            entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content[name])
    return out.getvalue()


def _each(shown: Collected) -> list[Figure | Table]:
    return [*shown.figures.values(), *shown.tables.values()]


def _markdown(screen: Screen, shown: Collected, sources: Mapping[tuple[str, ...], str], address: str, command: str, widths: Mapping[str, float]) -> str:
    """One paragraph a figure or table; each says by itself what it shows and how it is made again."""
    hues = ", ".join(f"{label.lower()} {colour}" for label, colour in FAMILIES.values())
    lines = [f"# {screen.label}: {screen.question}", "", f"Colours are families of methods, the same in every figure: {hues}. Intervals are of 95 %."]
    for each in _each(shown):
        what = f"Figure, {widths[each.name]:g} mm wide" if isinstance(each, Figure) else "Table"
        studies = [f"`{study}`" for study in captions.again(each.studies)]
        computed = f" The numbers are computed again by {formats.listed(studies)}." if studies else ""
        lines += ["", f"## {each.name}", "", f"**{what}.** {_caption(each, sources)} View: `{address}`. Made by `{command}`.{computed}"]
    return "\n".join([*lines, ""])


def _latex(shown: Collected, sources: Mapping[tuple[str, ...], str], command: str, widths: Mapping[str, float]) -> str:
    """Floats to copy, for graphicx and booktabs; paths are as in the zip's folder."""
    lines = [f"% {command}", "% needs graphicx and booktabs"]
    for each in _each(shown):
        is_figure = isinstance(each, Figure)
        kind = "figure" if is_figure else "table"
        body = rf"\includegraphics[width={widths[each.name]:g}mm]{{{each.name}}}" if is_figure else rf"\input{{{each.name}}}"
        lines += ["", rf"\begin{{{kind}}}", r"  \centering", f"  {body}", rf"  \caption{{{export.escaped(_caption(each, sources))}}}",
                  rf"  \label{{{kind[:3]}:{each.name}}}", rf"\end{{{kind}}}"]
    return "\n".join([*lines, ""])


def _caption(each: Figure | Table, sources: Mapping[tuple[str, ...], str]) -> str:
    return " ".join(part for part in (each.caption, sources[each.studies]) if part)
