"""Unity: what it learns from, the loss against brute force, and no drawing sees its neighbours."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import pytest
import torch

from hitree_training import data, presets, step_spans
from hitree_training.models.scorer import Scorer, ScorerPreset
from hitree_training.step_spans import StepSpans

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@pytest.fixture(scope="module")
def spans(small_data: Path) -> StepSpans:
    return StepSpans(data.load(small_data, kinds=("drawn",))[:20], {"drawn": 1.0}, "reading")


@pytest.fixture(scope="module")
def model(spans: StepSpans) -> Scorer:
    torch.manual_seed(0)
    made = Scorer(presets.load(ScorerPreset, "scorer-tiny"), token_width=data.token_vectors().width)
    batch = spans.batch(torch.arange(20), None)
    made.unity(batch.strokes, batch.spans, batch.bounds)  # so that geometry has its scale
    return made.eval()


class Given(Scorer):
    """Says what it is told to."""

    def __init__(self, log_odds: Tensor) -> None:
        super().__init__(presets.load(ScorerPreset, "scorer-tiny"), token_width=8)
        self.log_odds = log_odds

    def unity(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return self.log_odds


def test_all_spans_are_there_and_the_annotators_are_marked(spans: StepSpans) -> None:
    batch = spans.batch(torch.tensor([3, 7]), None)
    for b, i in enumerate((3, 7)):
        note = spans.examples[i].annotation
        assert note
        own = batch.drawing == b
        strokes = int(batch.size[b])
        assert int(own.sum()) == strokes * (strokes + 1) // 2
        first = batch.bounds[own, :1]
        marked = (batch.spans[own] - first)[batch.steps[own] == 1]
        assert {tuple(span) for span in marked.tolist()} == {(s.start, s.end) for s in note.steps}


def test_the_loss_is_the_likelihood_of_the_annotators_partition(spans: StepSpans) -> None:
    batch = spans.batch(torch.tensor([0, 5]), None)
    torch.manual_seed(1)
    log_odds = torch.randn(len(batch.spans))
    found = float(step_spans.loss(Given(log_odds), batch))
    value = dict(zip(map(tuple, batch.spans.tolist()), log_odds.tolist(), strict=True))
    total = 0.0
    for b in range(2):
        begin, end = batch.bounds[batch.drawing == b][0].tolist()
        ways = [
            sum(value[pair] for pair in pairwise((begin, *cuts, end)))
            for count in range(end - begin)
            for cuts in combinations(range(begin + 1, end), count)
        ]
        own = log_odds[(batch.drawing == b) & (batch.steps == 1)].sum()
        total += float(torch.logsumexp(torch.tensor(ways), dim=0) - own)
    odds = torch.where(batch.steps == 1, log_odds, -log_odds)
    alone = -torch.nn.functional.logsigmoid(odds).sum()
    wanted = (total + step_spans.CALIBRATION * float(alone) / 4) / 2
    assert found == pytest.approx(wanted, rel=1e-4)


def test_trees_of_known_steps_are_all_right_and_of_their_opposite_wrong(spans: StepSpans) -> None:
    batch = spans.batch(torch.arange(20), None)
    known = 2 * batch.steps - 1
    assert step_spans.f1(Given(known), spans, size=20) == 1.0
    assert step_spans.f1(Given(-known), spans, size=20) < 0.5


def test_drawings_end_to_end_do_not_see_each_other(model: Scorer, spans: StepSpans) -> None:
    together = spans.batch(torch.tensor([4, 2, 9]), None)
    with torch.inference_mode():
        found = model.unity(together.strokes, together.spans, together.bounds)
        for b, i in enumerate((4, 2, 9)):
            alone = spans.batch(torch.tensor([i]), None)
            expected = model.unity(alone.strokes, alone.spans)
            torch.testing.assert_close(found[together.drawing == b], expected)


def test_unity_sees_the_neighbours_of_a_span(model: Scorer, spans: StepSpans) -> None:
    batch = spans.batch(torch.tensor([4]), None)
    moved = batch.strokes.clone()
    moved[3, :, :2] += 0.5
    span = torch.tensor([[1, 3], [4, 6]])
    with torch.inference_mode():
        before, after = model.unity(batch.strokes, span), model.unity(moved, span)
    assert (before - after).abs().min() > 1e-4


def test_training_tells_steps_from_other_spans(spans: StepSpans) -> None:
    torch.manual_seed(0)
    preset = replace_preset(unity=24)
    made = Scorer(preset, token_width=data.token_vectors().width)
    optimiser = torch.optim.Adam(made.steps.parameters(), lr=1e-2)
    batch = spans.batch(torch.arange(20), None)
    for _ in range(60):
        optimiser.zero_grad()
        torch.autograd.backward(step_spans.loss(made, batch))
        optimiser.step()
    assert step_spans.f1(made.eval(), spans) > 0.8  # of what it was trained on


def replace_preset(**changed: int) -> ScorerPreset:
    return presets.load(ScorerPreset, "scorer-tiny").model_copy(update=changed)
