"""Figures and tables as files: the charts of the page once more, in millimetres, on white, in the sizes that papers take."""

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from pages.ui import charts, formats
from pages.ui.theme import PAPER, Style

WIDTHS = {"one column, 88 mm": 88.0, "two columns, 180 mm": 180.0}
FORMATS = {"PDF": "application/pdf", "SVG": "image/svg+xml", "PNG": "image/png"}
_POINTS_PER_MM = 72 / 25.4
_PNG_PPI = 300

Build = Callable[[Style, float, bool], charts.Spec]  # style, width of one panel, panels below each other -> figure


def figure(name: str, build: Build, *, panels: int) -> None:
    """A popover with format and width, and the file. build(style, panel width in points, below) draws it; below: one column."""
    with st.popover("Export figure", icon=":material/download:", key=f"export-{name}"):
        kind = st.segmented_control("Format", list(FORMATS), default="PDF", required=True, key=f"export-{name}-format") or "PDF"
        width = st.radio("Width", list(WIDTHS), index=1 if panels > 1 else 0, key=f"export-{name}-width")
        st.download_button(f"Download {kind}", data=lambda: drawn(build, kind, WIDTHS[width], panels), file_name=f"{name}.{kind.lower()}",
                           mime=FORMATS[kind], on_click="ignore", type="primary", icon=":material/download:", key=f"export-{name}-file")
        st.caption("White background, fonts embedded, text of 7 pt and more.")


def drawn(build: Build, kind: str, millimetres: float, panels: int) -> bytes:
    """The figure as a file of that width. kind: PDF, SVG or PNG (300 dots an inch)."""
    import vl_convert  # takes a while to start and is needed only here

    target = millimetres * _POINTS_PER_MM
    below = panels > 1 and millimetres < 120
    abreast = 1 if below else panels
    width = target / abreast - 45
    svg, spec = "", {}
    for _ in range(4):  # the space that axis titles and labels take is known only once drawn
        spec = charts.dressed(build(PAPER, width, below), PAPER)
        svg = vl_convert.vegalite_to_svg(spec)
        found = re.search(r'width="([\d.]+)"', svg)
        assert found is not None
        excess = float(found[1]) - target
        if abs(excess) < 1:
            break
        width -= excess / abreast
    if kind == "SVG":
        return _in_millimetres(svg).encode()
    return vl_convert.vegalite_to_pdf(spec) if kind == "PDF" else vl_convert.vegalite_to_png(spec, ppi=_PNG_PPI)


def table(name: str, full: pd.DataFrame, shown: pd.DataFrame, *, label: str = "Export table") -> None:
    """A popover with the table as files. full: every column at full precision, for CSV. shown: texts as on screen, for papers."""
    with st.popover(label, icon=":material/table:", key=f"export-{name}-table"):
        for kind, make, mime in (("CSV", lambda: full.to_csv(index=False), "text/csv"), ("LaTeX", lambda: latex(shown), "text/x-tex"),
                                 ("Markdown", lambda: markdown(shown), "text/markdown")):
            suffix = {"CSV": "csv", "LaTeX": "tex", "Markdown": "md"}[kind]
            st.download_button(kind, data=make, file_name=f"{name}.{suffix}", mime=mime, on_click="ignore", width="stretch",
                               icon=":material/download:", key=f"export-{name}-{suffix}")
        st.caption("CSV holds every metric with its interval at full precision; LaTeX and Markdown the table as shown.")


def latex(shown: pd.DataFrame) -> str:
    """The table for booktabs, everything escaped, numbers to the right."""
    columns = "l" + "r" * (len(shown.columns) - 1)
    lines = [" & ".join(map(_escaped, shown.columns)), *(" & ".join(map(_escaped, row)) for row in shown.itertuples(index=False))]
    body = [f"{line} \\\\" for line in lines]
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", "\\toprule", body[0], "\\midrule", *body[1:], "\\bottomrule", "\\end{tabular}", ""])


def markdown(shown: pd.DataFrame) -> str:
    rows = [list(map(str, shown.columns)), [":--"] + ["--:"] * (len(shown.columns) - 1), *([str(v) for v in row] for row in shown.itertuples(index=False))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
          "^": r"\textasciicircum{}", "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "½": r"$\frac12$", "×": r"$\times$", "±": r"$\pm$",
          "−": "$-$", formats.MISSING: "--", "\u202f": "\\,"}


def _escaped(value: Any) -> str:
    return "".join(_LATEX.get(c, c) for c in str(value))


def _in_millimetres(svg: str) -> str:
    """Width and height of the drawing in millimetres instead of px; its viewBox keeps the scale."""
    head, _, rest = svg.partition(">")
    return re.sub(r'(width|height)="([\d.]+)"', lambda m: f'{m[1]}="{float(m[2]) / _POINTS_PER_MM:.2f}mm"', head) + ">" + rest
