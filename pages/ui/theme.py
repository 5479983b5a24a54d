"""Colours, marks and sizes: the one place that assigns them.

Hue is the family of a method, the marker tells methods of a family apart, and names stand beside the points. The colours
follow Okabe and Ito and stay apart under the common colour-vision types; red never stands against green.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FAMILIES: dict[str, tuple[str, str]] = {
    "reference": ("Reference", "#6b7280"),
    "finetune": ("Retain fine-tuning", "#0072b2"),
    "ascent": ("Ascent and relabelling", "#d55e00"),
    "distillation": ("Distillation", "#009e73"),
    "reset": ("Reset and mask", "#9467bd"),
    "second_order": ("Second order", "#b8860b"),
}
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
REFERENCES = {"original": "Original", "retrained": "Retrained"}


@dataclass(frozen=True)
class Look:
    """How a method appears everywhere: its name, its family's hue and its own marker."""

    label: str
    family: str
    colour: str
    shape: str

    def title(self, variant: str) -> str:
        return self.label if variant in ("corrected", None) else f"{self.label} ({variant})"


@dataclass(frozen=True)
class Style:
    """Sizes in px on screen and in points on paper, where vl-convert makes one px one point."""

    ink: str
    muted: str
    faint: str
    line: str
    band: str
    accent: str
    page: str
    background: str
    font: str = '"Source Sans", sans-serif'
    text: int = 12
    label: int = 13
    title: int = 13
    point: int = 120
    stroke: float = 1.5
    row: int = 30


LIGHT = Style(ink="#1c2230", muted="#5a6475", faint="#b9c0cc", line="#e6e9ef", band="#e6eaf2", accent="#3b5bdb", page="#fcfcfd",
              background="transparent")
DARK = Style(ink="#e6e9f0", muted="#a3adbf", faint="#4a5468", line="#262d3a", band="#232b3b", accent="#91a7ff", page="#12151c",
             background="transparent")
# vl-convert draws no text at all for a font that it lacks; "sans-serif" is Liberation Sans, which it brings along
PAPER = Style(ink="#000000", muted="#444444", faint="#aaaaaa", line="#e8e8e8", band="#ececec", accent="#3b5bdb", page="white",
              background="white", font="sans-serif", text=7, label=8, title=8, point=36, stroke=0.9, row=15)


def looks(methods: Iterable[Mapping[str, Any]]) -> dict[str, Look]:
    """The look of every method of the catalogue and of the references; the same whatever is filtered."""
    found = {name: Look(label, "reference", FAMILIES["reference"][1], shape)
             for (name, label), shape in zip(REFERENCES.items(), ("diamond", "circle"), strict=True)}
    taken: dict[str, int] = {}
    for method in sorted(methods, key=lambda m: m["name"]):
        family = method["family"] if method["family"] in FAMILIES else "reference"
        place = taken[family] = taken.get(family, -1) + 1
        found.setdefault(method["name"], Look(method["label"], family, FAMILIES[family][1], SHAPES[place % len(SHAPES)]))
    return found


def look(known: Mapping[str, Look], method: str) -> Look:
    """Of a method that may have left the catalogue: then grey, under its bare name."""
    return known.get(method) or Look(method, "reference", FAMILIES["reference"][1], "cross")


def mixed(colour: str, page: str, share: float) -> str:
    """So much of a colour over the page, both as #rrggbb; the page may be `white`."""
    both = [[int(one[at:at + 2], 16) for at in (1, 3, 5)] for one in (colour, "#ffffff" if page == "white" else page)]
    return "#" + "".join(f"{round(share * mine + (1 - share) * under):02x}" for mine, under in zip(*both, strict=True))
