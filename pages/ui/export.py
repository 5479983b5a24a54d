"""Figures and tables as files: the charts of the page once more, in millimetres, on white, in the sizes that papers take."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import streamlit as st

from pages.ui import charts, formats
from pages.ui.theme import LIGHT, PAPER, Style

WIDTHS = {"one column, 88 mm": 88.0, "two columns, 180 mm": 180.0}
FORMATS = {"PDF": "application/pdf", "SVG": "image/svg+xml", "PNG": "image/png", "HTML": "text/html"}
_POINTS_PER_MM = 72 / 25.4
_PNG_PPI = 300
_SCREEN, _ALONE, _ABREAST = replace(LIGHT, background="white"), 900.0, 420.0  # px, of a panel

Build = Callable[[Style, float, bool], charts.Spec]  # style, width of one panel, panels below each other -> figure


COLLECTED = "collected"


@dataclass(frozen=True)
class Figure:
    """caption: what it shows, with direction and what marks and intervals are, as in a paper. studies: run ids of what it was made from."""

    name: str
    build: Build
    panels: int
    caption: str
    studies: tuple[str, ...]

    @property
    def millimetres(self) -> float:
        """One column, or two where panels stand abreast."""
        return list(WIDTHS.values())[self.panels > 1]


@dataclass(frozen=True)
class Table:
    """full: every column at full precision. shown: texts as on screen. caption, studies: as of a figure."""

    name: str
    full: pd.DataFrame
    shown: pd.DataFrame
    caption: str
    studies: tuple[str, ...]


@dataclass
class Collected:
    """What one run of a page has shown, in its order and by name: a fragment that runs again replaces what it showed before.

    query: of its address, and parameters: what that may name, both once the page is drawn.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    query: str = ""
    parameters: set[str] = field(default_factory=set)


def begin() -> None:
    """A page is drawn anew: what its last run showed is no longer on it. Kept by session, so visitors never see each other's."""
    st.session_state[COLLECTED] = Collected()


def collected() -> Collected:
    """What this visitor's page has shown since it began."""
    return st.session_state.setdefault(COLLECTED, Collected())


def figure(name: str, build: Build, *, panels: int, caption: str, studies: Sequence[str] = ()) -> None:
    """A popover with format and width, and the file. build(style, panel width in points, below) draws it; below: one column.

    caption, studies: see `Figure`; a run of one's own is of no study.
    """
    shown = collected().figures[name] = Figure(name, build, panels, caption, tuple(studies))
    with st.popover("Export figure", icon=":material/download:", key=f"export-{name}"):
        kind = st.segmented_control("Format", list(FORMATS), default="PDF", required=True, key=f"export-{name}-format") or "PDF"
        width = st.radio("Width", list(WIDTHS), index=list(WIDTHS.values()).index(shown.millimetres), key=f"export-{name}-width",
                         disabled=kind == "HTML")
        st.download_button(f"Download {kind}", data=lambda: drawn(build, kind, WIDTHS[width], panels), file_name=f"{name}.{kind.lower()}",
                           mime=FORMATS[kind], on_click="ignore", type="primary", icon=":material/download:", key=f"export-{name}-file")
        st.caption("One page that stands alone, for a screen, with the values where one points." if kind == "HTML" else
                   "White background, fonts embedded, text of 7 pt and more.")


def table(name: str, full: pd.DataFrame, shown: pd.DataFrame, *, caption: str, studies: Sequence[str] = (),
          label: str = "Export table") -> None:
    """A popover with the table as files. full: every column at full precision, for CSV. shown: texts as on screen, for papers."""
    collected().tables[name] = Table(name, full, shown, caption, tuple(studies))
    with st.popover(label, icon=":material/table:", key=f"export-{name}-table"):
        for kind, make, mime in (("CSV", lambda: full.to_csv(index=False), "text/csv"), ("LaTeX", lambda: latex(shown), "text/x-tex"),
                                 ("Markdown", lambda: markdown(shown), "text/markdown")):
            suffix = {"CSV": "csv", "LaTeX": "tex", "Markdown": "md"}[kind]
            st.download_button(kind, data=make, file_name=f"{name}.{suffix}", mime=mime, on_click="ignore", width="stretch",
                               icon=":material/download:", key=f"export-{name}-{suffix}")
        st.caption("CSV holds every metric with its interval at full precision; LaTeX and Markdown the table as shown.")


def drawn(build: Build, kind: str, millimetres: float, panels: int) -> bytes:
    """The figure as a file of that width. kind: PDF, SVG, PNG (300 dots an inch), or HTML, whose width is a screen's."""
    return interactive(build, panels) if kind == "HTML" else converted(fitted(build, millimetres, panels), kind)


def interactive(build: Build, panels: int) -> bytes:
    """The figure as one HTML page, with everything that it needs inside: it asks nobody for anything, and offers to send nothing anywhere."""
    import vl_convert

    spec = charts.dressed(build(_SCREEN, _ALONE if panels == 1 else _ABREAST, False), _SCREEN)
    return vl_convert.vegalite_to_html({**spec, "usermeta": {"embedOptions": {"actions": False}}}, bundle=True).encode()


def fitted(build: Build, millimetres: float, panels: int) -> str:
    """The figure as an SVG of that width, in points. What a figure is as other files comes from this, so all look the same."""
    import vl_convert  # takes a while to start and is needed only here

    target = millimetres * _POINTS_PER_MM
    below = panels > 1 and millimetres < 120
    abreast = 1 if below else panels
    width, svg = target / abreast - 45, ""
    for _ in range(8):  # the space that axis titles and labels take is known only once drawn
        svg = vl_convert.vegalite_to_svg(charts.dressed(build(PAPER, width, below), PAPER))
        found = re.search(r'width="([\d.]+)"', svg)
        assert found is not None
        excess = float(found[1]) - target
        if abs(excess) < 1:
            break
        width -= excess / abreast
    return svg


def height(svg: str) -> float:
    """Of a fitted figure, in millimetres."""
    found = re.search(r'height="([\d.]+)"', svg)
    assert found is not None
    return float(found[1]) / _POINTS_PER_MM


def converted(svg: str, kind: str) -> bytes:
    """A fitted figure as PDF, SVG or PNG; the same figure gives the same bytes."""
    import vl_convert

    if kind == "SVG":
        return _in_millimetres(svg).encode()
    return vl_convert.svg_to_pdf(svg) if kind == "PDF" else vl_convert.svg_to_png(svg, ppi=_PNG_PPI)


def latex(shown: pd.DataFrame) -> str:
    """The table for booktabs, everything escaped, numbers to the right."""
    columns = "l" + "r" * (len(shown.columns) - 1)
    lines = [" & ".join(map(escaped, shown.columns)), *(" & ".join(map(escaped, row)) for row in shown.itertuples(index=False))]
    body = [f"{line} \\\\" for line in lines]
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", "\\toprule", body[0], "\\midrule", *body[1:], "\\bottomrule", "\\end{tabular}", ""])


def markdown(shown: pd.DataFrame) -> str:
    rows = [list(map(str, shown.columns)), [":--"] + ["--:"] * (len(shown.columns) - 1), *([str(v) for v in row] for row in shown.itertuples(index=False))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
          "^": r"\textasciicircum{}", "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "½": r"$\frac12$", "×": r"$\times$", "±": r"$\pm$",
          "−": "$-$", formats.MISSING: "--", "\u202f": "\\,", "ε": r"$\varepsilon$", "δ": r"$\delta$", "≤": r"$\le$", "≥": r"$\ge$", "·": r"$\cdot$",
          "“": "``", "”": "''", "’": "'", "²": "$^2$", "∞": r"$\infty$"}


def escaped(value: Any) -> str:
    """A text for LaTeX."""
    return "".join(_LATEX.get(c, c) for c in str(value))


def _in_millimetres(svg: str) -> str:
    """Width and height of the drawing in millimetres instead of px; its viewBox keeps the scale."""
    head, _, rest = svg.partition(">")
    return re.sub(r'(width|height)="([\d.]+)"', lambda m: f'{m[1]}="{float(m[2]) / _POINTS_PER_MM:.2f}mm"', head) + ">" + rest
