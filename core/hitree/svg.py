"""Drawings as SVG text: one path a stroke, round caps, a title for those who cannot see it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from hitree.drawing import FRAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree.drawing import Drawing, Stroke
    from hitree.tree import Plan

INK = "#1f2430"
WIDTH = 3  # units, of the line

# Told apart by the colour-blind too: Okabe & Ito, "Color Universal Design" (2008), without the
# yellow that white paper swallows.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def to_svg(drawing: Drawing, *, title: str = "", colours: Sequence[str] = ()) -> str:
    """Draw strokes as SVG, in the frame's units.

    ``colours`` holds one CSS colour a stroke (see `leaf_colours`); without it all are ink.
    """
    colours = colours or [INK] * len(drawing.strokes)
    label = f" aria-label={quoteattr(title)}" if title else ""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {FRAME} {FRAME}" role="img"{label}>',
        f"<title>{escape(title)}</title>" if title else "",
        f'<g fill="none" stroke-width="{WIDTH}" stroke-linecap="round" stroke-linejoin="round">',
        *(
            f'<path stroke={quoteattr(colour)} d="{_path(stroke)}"/>'
            for stroke, colour in zip(drawing.strokes, colours, strict=True)
        ),
        "</g>",
        "</svg>",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def leaf_colours(plan: Plan, strokes: int) -> list[str]:
    """One colour a stroke: the strokes of a leaf share theirs; strokes of no leaf are ink."""
    colours = [INK] * strokes
    for index, leaf in enumerate(plan.leaves):
        span = range(strokes)[leaf.start : leaf.end] if leaf.start is not None else ()
        for stroke in span:
            colours[stroke] = PALETTE[index % len(PALETTE)]
    return colours


def _path(stroke: Stroke) -> str:
    points = [f"{x:g} {y:g}" for x, y in stroke.tolist()]
    if len(points) == 1:
        points *= 2  # a line of no length shows its round caps: a dot
    return "M" + "L".join(points)
