"""The judge: what it sees of segments, what it is taught, and that it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from hitree.drawing import Drawing
from hitree.segments import stroke_features
from hitree_training import checkpoint, data, presets, train_judge
from hitree_training.evaluation.foils import Parts
from hitree_training.models.judge import Judge, JudgePreset, _Members
from hitree_training.train_judge import Steps

if TYPE_CHECKING:
    from pathlib import Path

TINY = presets.load(JudgePreset, "judge-tiny")


def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(TINY, token_width=data.token_vectors().width).eval()


def test_members_are_gathered_by_span() -> None:
    members = _Members(torch.tensor([0, 1, 2]), torch.tensor([2, 1, 3]))  # the second is empty
    values = torch.tensor([[1.0, -4.0], [3.0, -2.0], [5.0, 5.0]])
    assert members.mean(values).tolist() == [[2, -3], [0, 0], [5, 5]]
    assert members.most(values).tolist() == [[3, -2], [0, 0], [5, 5]]
    assert members.box(values, values + 1).tolist() == [[1, -4, 4, -1], [0] * 4, [5, 5, 6, 6]]


def test_a_segment_does_not_depend_on_what_comes_after_or_beside() -> None:
    drawing = Drawing.of([[[0, 0], [50, 50]], [[9, 9]], [[100, 20], [140, 90]], [[7, 200], [9, 9]]])
    strokes, model = torch.from_numpy(stroke_features(drawing)), judge()
    spans, first = torch.tensor([[1, 3], [0, 1]]), torch.tensor([0, 0])
    whole = model.segments(strokes, spans, first)
    alone = model.segments(strokes[:3], spans[:1], first[:1])
    twice = model.segments(strokes.repeat(2, 1, 1), spans + 4, first + 4)
    torch.testing.assert_close(whole[:1], alone)
    torch.testing.assert_close(whole, twice)
    moved = model.segments(strokes[1:3], torch.tensor([[0, 2]]), torch.tensor([0]))
    assert not torch.allclose(whole[:1], moved)  # it does depend on the canvas


def examples(folder: Path) -> list[data.Example]:
    return [e for e in data.load(folder, kinds=("drawn",)) if e.annotation]


def test_a_batch_holds_every_step_with_its_foils(small_data: Path) -> None:
    some = examples(small_data)
    steps = Steps(some, Parts(some), "reading")
    batch = steps.batch(torch.arange(6), torch.Generator().manual_seed(0), augment=False)
    texts = [s.text for e in some[:6] if e.annotation for s in e.annotation.steps]
    count = len(texts)
    assert list(batch.texts[:count]) == texts
    assert batch.foils[:, :count].sum() == 0
    assert (batch.foils[:, count:].sum(dim=0) == 1).all()  # each is one step's
    for step, foil in batch.traits.tolist():
        assert batch.foils[step, foil] == 1
        assert batch.texts[foil] != batch.texts[step]
    assert len(batch.balance) == len(batch.traits) > 0


def test_neither_way_round_weighs_more(small_data: Path) -> None:
    some = examples(small_data)
    steps = Steps(some, Parts(some), "reading")
    everything = torch.arange(len(some))
    batch = steps.batch(everything, torch.Generator().manual_seed(0), augment=False)
    weight = {"small": 0.0, "big": 0.0}
    for (step, foil), balance in zip(batch.traits.tolist(), batch.balance.tolist(), strict=True):
        own, other = (set(batch.texts[n].split()) for n in (step, foil))
        for way in weight:
            weight[way] += balance if way in other - own else 0.0
    assert weight["small"] == pytest.approx(weight["big"], rel=0.01)


def test_training_learns_and_keeps_the_best(small_data: Path, tmp_path: Path) -> None:
    asked = train_judge.Options(
        small_data, tmp_path / "judge.pt", TINY, None, steps=30, batch=12, evaluate_every=10
    )
    made = train_judge.train(asked)
    kept = train_judge.load(asked.out)
    held = [e for e in data.load(small_data, kinds=("drawn",), splits=("valid",)) if e.annotation]
    valid = Steps(held, Parts(examples(small_data)), "reading")
    before, after = train_judge.evaluate(judge(), valid), train_judge.evaluate(kept, valid)
    assert after.loss < before.loss - 0.5
    assert after.part > 0.7
    assert vars(after) == pytest.approx(made.extras["valid"])
    assert checkpoint.load(asked.out, "judge").extras["seed"] == 7
