"""Tuning: what a setting is measured by, and that both grids are gone through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hitree.parse import DEFAULT, Fits, Judged, Weights, all_spans
from hitree_training import tuning
from hitree_training.annotations import Step
from hitree_training.explain import Described, Explainer
from hitree_training.tuning import Case, measure

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from hitree_training.data import Example

STEPS = (Step(0, 1, "draw a head"), Step(1, 4, "add a mane"), Step(4, 6, "add two eyes"))


def judged(steps: tuple[Step, ...], strokes: int) -> Judged:
    """Unity that knows the steps, and a fit that says the opposite."""
    wanted = {(step.start, step.end) for step in steps}
    known = [tuple(span) in wanted for span in all_spans(strokes).tolist()]
    unity = np.where(known, 2, -2).astype(np.float32)
    fits = Fits.of_unity(unity)
    return Judged(strokes, Fits(**{**vars(fits), "fit": -4 * unity}))


def test_a_setting_is_measured_at_the_annotators_size_or_under_a_threshold() -> None:
    cases = [Case(judged(STEPS, 6), STEPS)] * 2
    found = measure(cases, DEFAULT, None)
    assert (found.f1, found.nodes, found.wanted) == (1.0, 4.0, 4.0)
    assert measure(cases, Weights(unity=1.0, fit=1.0), None).f1 < 0.5
    loose = measure(cases, DEFAULT, -9.0)
    assert loose.nodes > loose.wanted
    assert loose.f1 < measure(cases, DEFAULT, 0.0).f1 == 1.0


def test_both_grids_come_best_first_and_weights_matter(
    small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(self: Explainer, example: Example) -> Described:  # noqa: ARG001
        assert example.annotation
        return Described(judged(example.annotation.steps, len(example.drawing.strokes)), ())

    monkeypatch.setattr(Explainer, "load", lambda *_: Explainer(None, None, None))  # type: ignore[arg-type]  # not asked
    monkeypatch.setattr(Explainer, "judge", judge)
    weights, thresholds = tuning.tune(small_data, small_data, small_data)
    sizes = (tuning.FITS, tuning.LIKELIHOODS, tuning.COHERENCES)
    assert len(weights) == np.prod([len(values) for values in sizes])
    assert len(thresholds) == len(tuning.THRESHOLDS)
    for settings in (weights, thresholds):
        scores = [setting.f1 for setting in settings]
        assert scores == sorted(scores, reverse=True)
    assert weights[0].weights.fit == 0.0
    assert weights[-1].weights.fit > 0.0
    assert weights[0].f1 == 1.0
    assert {setting.weights for setting in thresholds} == {DEFAULT}
