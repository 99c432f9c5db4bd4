"""Steering: cases are balanced and held out, verdicts are counted, the whole runs on tiny nets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bundles import tiny_checkpoints
from hitree_training import data, presets
from hitree_training.evaluation import steering
from hitree_training.evaluation.steering import Case, Verdict
from hitree_training.models.judge import Judge, JudgePreset
from hitree_training.sample import Sampling
from hitree_training.trained import Trained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return steering.choose(None, "test", 70, seed=0)


def tiny_judge() -> Judge:
    torch.manual_seed(0)
    preset = presets.load(JudgePreset, "judge-tiny")
    return Judge(preset, token_width=data.token_vectors().width).eval()


def names(cases: list[Case]) -> list[tuple[str, int, str]]:
    return [(case.example.key_id, case.step.start, case.foil.text) for case in cases]


def test_cases_are_held_out_and_balanced_over_subjects(cases: list[Case]) -> None:
    assert len(cases) == 70
    assert {case.example.split for case in cases} == {"test"}
    subjects = [case.example.subject for case in cases]
    rounds = len(set(subjects))
    assert len(set(subjects[:rounds])) == rounds >= 34  # each once, then once more
    assert len(set(names(cases))) == 70


def test_cases_follow_from_the_seed(cases: list[Case]) -> None:
    assert names(cases) == names(steering.choose(None, "test", 70, seed=0))
    assert names(cases) != names(steering.choose(None, "test", 70, seed=1))


def test_a_case_asks_for_its_step_on_what_was_there_before(cases: list[Case]) -> None:
    for case in cases:
        strokes, request = case.example.drawing.strokes, case.request
        before = request.canvas.strokes if request.canvas else ()
        assert [s.tolist() for s in before] == [s.tolist() for s in strokes[: case.step.start]]
        assert request.steps == (case.step.text,)
        assert request.whole == (case.step.end == len(strokes))
        assert len(case.human.strokes) == case.step.end


def test_a_turned_case_asks_for_the_opposite(cases: list[Case]) -> None:
    case = next(case for case in cases if case.foil.kind == "trait")
    turned = case.turned
    assert turned.request.steps == (case.foil.text,)
    assert turned.foil.text == case.step.text
    assert turned.foil.trait == case.foil.trait
    assert (turned.canvas is None) == (case.canvas is None)


def test_shares_are_counted_by_group(cases: list[Case]) -> None:
    trait = next(case for case in cases if case.foil.trait == "size")
    part = next(case for case in cases if case.foil.kind == "part")
    found = steering.figures([Verdict(trait, 1.0), Verdict(trait, 0.0), Verdict(part, 1.0)], 0)
    assert found["all"]["share"] == pytest.approx(2 / 3)
    assert found["trait"]["share"] == found["trait size"]["share"] == 0.5
    assert found["part"] == {"share": 1.0, "low": 1.0, "high": 1.0, "cases": 1}
    assert found["drawn trait"]["cases"] == 2
    assert "real" not in found


def test_the_interval_is_that_of_the_mean() -> None:
    wins = (np.arange(400) % 4 > 0).astype(float)  # three in four
    found = steering.estimate(wins, 0)
    error = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found["low"] == pytest.approx(0.75 - error, abs=0.01)
    assert found["high"] == pytest.approx(0.75 + error, abs=0.01)


class Measuring:
    """A judge that likes an instruction as much as it has letters, and looks at the last span."""

    def __init__(self) -> None:
        self.spans: list[list[int]] = []

    def segments(self, _strokes: Tensor, spans: Tensor, _first: Tensor) -> Tensor:
        self.spans += spans.tolist()
        return torch.ones(1, 1)

    def texts(self, _tokens: Tensor, mask: Tensor) -> Tensor:
        return mask.sum(dim=1, keepdim=True)


def test_the_judge_sees_the_last_segment_and_compares_texts(cases: list[Case]) -> None:
    some, judge = cases[:8], Measuring()
    drawings = [[case.human] * 2 for case in some]
    found = steering.judged(judge, some, drawings)  # type: ignore[arg-type]  # a fake
    assert judge.spans == [[case.step.start, case.step.end] for case in some for _ in range(2)]
    for verdict in found:
        own, wrong = (
            len(data.token_vectors().vectors(text))
            for text in (verdict.case.step.text, verdict.case.foil.text)
        )
        assert verdict.own == (own > wrong)


def test_the_whole_runs_and_tells_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    draw = steering.draw

    def noting(decoder: Any, cases: Sequence[Case], by: Sampling, draws: int) -> Any:
        asked.append((by.told, len(cases) * draws))
        return draw(decoder, cases, by, draws)

    monkeypatch.setattr(steering, "draw", noting)
    decoder = Trained.load(decoder=tiny_checkpoints().decoder).decoder
    assert decoder is not None
    by = Sampling(max_leaf=8, guidance=2.0)
    found = steering.measure(decoder, tiny_judge(), None, cases=12, draws=2, by=by)
    assert found["cases"] == 12
    traits = found["preferred"]["human"]["trait"]["cases"]
    assert asked == [("stack", 24), ("stack", 2 * traits), ("subject", 24)]
    assert found["preferred"].keys() == {"drawn", "turned", "untold", "human"}
    assert found["sampling"]["guidance"] == 2.0
    json.dumps(found)


def test_draws_of_a_case_differ(cases: list[Case]) -> None:
    decoder = Trained.load(decoder=tiny_checkpoints().decoder).decoder
    assert decoder is not None
    ((one, other),) = steering.draw(decoder, cases[:1], Sampling(max_leaf=8), draws=2)
    before = cases[0].step.start
    assert [s.tolist() for s in one.strokes[:before]] == [
        s.tolist() for s in cases[0].example.drawing.strokes[:before]
    ]
    assert one.strokes[before].tolist() != other.strokes[before].tolist()


def test_no_drawings_are_no_cases() -> None:
    with pytest.raises(data.DataError, match="nowhen"):
        steering.choose(None, "nowhen", 10, 0)
