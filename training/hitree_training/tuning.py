"""Choose what counts how much in a tree: ``hitree-train tune``.

A grid over the weights of `hitree.parse`, and over the threshold of pruning, against the annotated
steps of held-out drawings. The weights found are written by hand into `hitree.parse.DEFAULT`, the
threshold into the exported settings: they change only when the models do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from hitree.parse import Fits, Weights, cky, prune
from hitree_training import data
from hitree_training.bracketing import Agreement, agreement, pruned
from hitree_training.explain import Explained, Explainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hitree.parse import Spans
    from hitree.tree import Node
    from hitree_training.annotations import Step
    from hitree_training.data import Example

LIKELIHOODS = (0.0, 0.1, 0.2, 0.4, 0.8)  # beside a fit of 1
COHERENCES = (0.0, 0.25, 0.5, 1.0, 2.0)
THRESHOLDS = tuple(np.round(np.arange(-1.0, 1.01, 0.1), 2).tolist())
MAX_NODES = 12  # where the threshold has to decide


@dataclass(frozen=True)
class Setting:
    """One point of the grid and the F1 that it reaches."""

    weights: Weights
    threshold: float | None  # None: pruned to as many nodes as the annotators have
    f1: float


class Remembered:
    """All segments of one drawing, described and judged once for the whole grid."""

    def __init__(self, scores: Explained, strokes: int) -> None:
        spans = [(i, j) for i in range(strokes) for j in range(i + 1, strokes + 1)]
        self._rows = {span: row for row, span in enumerate(spans)}
        self._fits = scores.spans(np.array(spans, np.int64))

    def spans(self, spans: Spans) -> Fits:
        """Look segments up; see `hitree.parse.SegmentScorer`."""
        rows = [self._rows[i, j] for i, j in spans.tolist()]
        fits = self._fits
        return Fits(fits.fit[rows], fits.likelihood[rows], fits.segments[rows], fits.texts[rows])


@dataclass(frozen=True)
class Case:
    """A drawing to tune on."""

    scores: Remembered
    strokes: int
    steps: tuple[Step, ...]


def tune(generator: Path, scorer: Path, folder: Path | None) -> tuple[list[Setting], list[Setting]]:
    """The settings of both grids, best first: of the weights, then of the threshold under them."""
    explainer = Explainer.load(generator, scorer)
    examples = data.load(folder, kinds=("real", "drawn"), splits=("valid",))
    shown = track(examples, "describing", console=Console(stderr=True), transient=True)
    cases = [case(explainer, example) for example in shown if example.annotation]
    weights = [
        Setting(tried, None, f1(cases, tried, lambda tree, steps: pruned(tree, 1 + len(steps))))
        for tried in itertools.starmap(Weights, itertools.product((1.0,), LIKELIHOODS, COHERENCES))
    ]
    weights.sort(key=lambda setting: -setting.f1)
    best = weights[0].weights
    thresholds = [Setting(best, tried, f1(cases, best, _cutter(tried))) for tried in THRESHOLDS]
    return weights, sorted(thresholds, key=lambda setting: -setting.f1)


def case(explainer: Explainer, example: Example) -> Case:
    """Describe all segments of a drawing."""
    strokes = len(example.drawing.strokes)
    steps = example.annotation.steps if example.annotation else ()
    return Case(Remembered(explainer.of(example.drawing, example.subject), strokes), strokes, steps)


def f1(
    cases: Sequence[Case], weights: Weights, cut: Callable[[Node, tuple[Step, ...]], Node]
) -> float:
    """F1 of the brackets over all drawings."""
    total = Agreement()
    for one in cases:
        tree = cky(one.strokes, one.scores, weights)
        total += agreement(cut(tree, one.steps), one.steps)
    return total.figures()["f1"]


def _cutter(threshold: float) -> Callable[[Node, tuple[Step, ...]], Node]:
    def cut(tree: Node, _: tuple[Step, ...]) -> Node:
        return prune(tree, max_nodes=MAX_NODES, threshold=threshold)

    return cut
