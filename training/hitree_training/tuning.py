"""Choose what counts how much in a tree: ``hitree-train tune``.

A grid over the weights of `hitree.parse`, and over the threshold of pruning, against the annotated
steps of held-out drawings. The weights found are written by hand into `hitree.parse.DEFAULT`, the
threshold into `hitree_training.explain.Parsing` and the exported settings: they change only when
the models do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from hitree.parse import DEFAULT, PARSER, PARSERS, Judged, Weights
from hitree.prune import prune
from hitree_training import data
from hitree_training.bracketing import Agreement, agreement, pruned
from hitree_training.explain import Explainer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hitree_training.annotations import Step

FITS = (0.0, 0.5, 1.0, 2.0)  # beside a unity of 1
LIKELIHOODS = (0.0, 0.2, 0.5, 1.0)
COHERENCES = (0.0, 0.5, 1.0, 2.0)
THRESHOLDS = tuple(np.round(np.arange(-3.0, 1.01, 0.25), 2).tolist())
MAX_NODES = 16  # where the threshold has to decide


@dataclass(frozen=True)
class Setting:
    """One point of the grid and what it reaches."""

    weights: Weights
    threshold: float | None  # None: pruned to as many nodes as the annotators have
    f1: float
    nodes: float  # of a tree, on average; the annotators' trees are in `wanted`
    wanted: float


@dataclass(frozen=True)
class Case:
    """A drawing to tune on."""

    known: Judged
    steps: tuple[Step, ...]


def tune(generator: Path, scorer: Path, folder: Path | None) -> tuple[list[Setting], list[Setting]]:
    """The settings of both grids, best first: of weights, then of thresholds under `DEFAULT`."""
    explainer = Explainer.load(generator, scorer)
    examples = data.load(folder, kinds=("real", "drawn"), splits=("valid",))
    shown = track(examples, "describing", console=Console(stderr=True), transient=True)
    cases = [Case(explainer.judge(e).known, e.annotation.steps) for e in shown if e.annotation]
    grid = itertools.product(FITS, LIKELIHOODS, COHERENCES)
    weights = [
        measure(
            cases,
            Weights(unity=1.0, fit=fit, likelihood=likelihood, coherence=coherence),
            None,
        )
        for fit, likelihood, coherence in grid
    ]
    weights.sort(key=lambda setting: -setting.f1)
    thresholds = [measure(cases, DEFAULT, threshold) for threshold in THRESHOLDS]
    return weights, sorted(thresholds, key=lambda setting: -setting.f1)


def measure(cases: Sequence[Case], weights: Weights, threshold: float | None) -> Setting:
    """What the best trees of drawings reach."""
    total, nodes = Agreement(), 0
    for one in cases:
        tree = PARSERS[PARSER](one.known.strokes, one.known, weights)
        if threshold is None:
            small = pruned(tree, 1 + len(one.steps))
        else:
            small = prune(tree, max_nodes=MAX_NODES, threshold=threshold)
        total += agreement(small, one.steps)
        nodes += len(list(small.walk()))
    wanted = sum(1 + len(one.steps) for one in cases)
    f1 = total.figures()["f1"]
    return Setting(weights, threshold, f1, nodes / len(cases), wanted / len(cases))
