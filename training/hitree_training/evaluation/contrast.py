"""Pictures of what text changes: pairs of instructions that differ in one trait.

Both of a pair are drawn from the same noise, on the same canvas, under the plain root, so that
what differs is what the text does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from hitree_training import sample, wording
from hitree_training.sample import Request

if TYPE_CHECKING:
    from hitree_training.models.decoder import SketchDecoder
    from hitree_training.sample import Sampling


@dataclass(frozen=True)
class Pair:
    """Two instructions that differ in one trait, and what is drawn before them."""

    subject: str
    before: tuple[str, ...]
    texts: tuple[str, str]


PAIRS = (
    Pair("cat", ("draw a round head",), ("add two big ears", "add two small ears")),
    Pair("rabbit", ("draw a round head",), ("add two long ears", "add two short ears")),
    Pair("owl", ("draw an oval body",), ("draw two big eyes", "draw two small eyes")),
    Pair("elephant", ("draw a big head",), ("add a long trunk", "add a short trunk")),
    Pair("dog", ("draw a long body",), ("add a long tail", "add a short tail")),
    Pair("bird", ("draw an oval body",), ("add a head on the left", "add a head on the right")),
    Pair("flamingo", (), ("draw a long curved neck", "draw a short straight neck")),
    Pair("pig", (), ("draw a big round body", "draw a small round body")),
    Pair("snail", (), ("draw a big spiral shell", "draw a small spiral shell")),
    Pair("whale", (), ("draw a whale facing left", "draw a whale facing right")),
    Pair("swan", ("draw the body",), ("add a neck on the left", "add a neck on the right")),
    Pair("bear", ("draw a round head",), ("add two round ears", "add two pointed ears")),
)


def grid(decoder: SketchDecoder, by: Sampling, seeds: int = 4) -> Figure:
    """Pairs of instructions, a line each: left one text, right the other, from the same noise."""
    sides = [
        sample.draw(
            decoder,
            [_request(pair, side) for pair in PAIRS for _ in range(seeds)],
            by,
        )
        for side in (0, 1)
    ]
    figure = Figure(figsize=(4.2 * seeds, 2.3 * len(PAIRS)), layout="constrained")
    for line, pair in enumerate(PAIRS):
        for side, made in enumerate(sides):
            for column in range(seeds):
                place = line * 2 * seeds + side * seeds + column + 1
                axes = figure.add_subplot(len(PAIRS), 2 * seeds, place)
                one = made[line * seeds + column]
                sample.plot(axes, one.drawing, one.leaves)
                if column == 0:
                    axes.set_title(f"{pair.subject}: {pair.texts[side]}", fontsize=9, loc="left")
    return figure


def _request(pair: Pair, side: int) -> Request:
    steps = (*pair.before, pair.texts[side])
    return Request(pair.subject, wording.root(pair.subject), steps, whole=False)
