"""The decoder: what it sees, what it draws, what it scores."""

import math

import pytest
import torch

from hitree.drawing import CENTRE
from hitree_training import data, presets
from hitree_training.models.decoder import (
    DecoderPreset,
    Head,
    SketchDecoder,
    State,
    Where,
    initial_state,
    sample_pen,
    splat,
)
from hitree_training.models.decoder_loss import Matching, losses
from hitree_training.models.layout import STROKES, place_of
from hitree_training.sequences import NO_AUGMENTATION, Batch, Sequences

TINY = presets.load(DecoderPreset, "decoder-tiny")


@pytest.fixture(scope="module")
def batch() -> Batch:
    sequences = Sequences(data.load(kinds=("drawn",), splits=("test",))[:24])
    return sequences.batch(torch.arange(8), torch.Generator().manual_seed(0), NO_AUGMENTATION)


@pytest.fixture(scope="module")
def model() -> SketchDecoder:
    torch.manual_seed(0)
    return SketchDecoder(TINY, token_width=data.token_vectors().width, scale=30.0).eval()


def step_inputs(rows: int) -> dict[str, torch.Tensor]:
    return {
        "noise": torch.rand(rows, 5).clamp(min=1e-6),
        "temperature": torch.ones(rows, 1),
        "forced": torch.zeros(rows, 5),
        "force": torch.zeros(rows, 1),
        "may_end": torch.ones(rows, 1),
    }


@torch.inference_mode()
def test_step_sees_what_training_sees(model: SketchDecoder, batch: Batch) -> None:
    """Forced through the rows, the stepwise LSTM gives the states of the teacher-forced one."""
    rows = len(batch.rows)
    condition = model.encode(batch.stacks, batch.stack_mask, batch.subject)[batch.segment]
    whole, where = model.states(batch.rows, condition)
    expected = model.predict(whole, condition, where)
    state = initial_state(TINY, rows)
    inputs = step_inputs(rows) | {"force": torch.ones(rows, 1)}
    for t in range(batch.rows.shape[1]):
        heard = model.hear(state, condition[:, t])
        head = model.predict(heard.h, condition[:, t], heard.where)
        state, end = model.step(state, condition[:, t], **(inputs | {"forced": batch.rows[:, t]}))
        live = batch.valid[:, t] > 0
        torch.testing.assert_close(state.h[live], whole[live, t], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(state.layout[live], where.layout[live, t], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(head.mean[live], expected.mean[live, t], atol=1e-4, rtol=1e-4)
        assert not end[batch.rows[:, t, 2] > 0].any()  # no segment ends with the pen down


@torch.inference_mode()
def test_a_stroke_cut_off_is_kept_as_any_other(model: SketchDecoder) -> None:
    """A leaf that is full lifts the pen from outside; the layout must know what was drawn."""
    condition = torch.rand(1, TINY.condition)

    def after(last: list[float]) -> State:
        """The state after a stroke of two points, the second as ``last``, and one point more."""
        state = initial_state(TINY, 1)
        lifted = torch.tensor([[0.0, 1, 0]])
        for made in ([-40.0, -40, 1, 0, 0], [30.0, 0, *last], [8.0, 8, 1, 0, 0]):
            force = {"force": torch.ones(1, 1), "forced": torch.tensor([made])}
            state, _ = model.step(state, condition, **(step_inputs(1) | force))
            if made[:2] == [30.0, 0]:
                row = torch.cat([state.pen.row[:, :2], lifted], dim=1)
                state = state._replace(pen=state.pen._replace(row=row))
        return state

    own, cut = after([0.0, 1, 0]), after([1.0, 0, 0])
    assert torch.equal(own.strokes, cut.strokes)
    assert own.strokes[0, :, -1].tolist() == [1.0] + [0.0] * (STROKES - 1)
    start = torch.tensor([[CENTRE - 40, CENTRE - 40]])
    end = start + torch.tensor([[30.0, 0]])
    stroke = torch.cat([start, end, torch.tensor([[30 / 256, 1.0]])], dim=-1)
    expected = model.layout.keep(place_of(start, end, stroke), model.layout.tell(condition))
    assert torch.equal(own.strokes[:, 0], expected)


@torch.inference_mode()
def test_a_stroke_begins_in_the_frame_wherever_the_pen_was(model: SketchDecoder) -> None:
    h, condition = torch.rand(2, TINY.width), torch.rand(2, TINY.condition)
    pens = torch.tensor([[10.0, 20.0], [200.0, 250.0]])
    h[1], condition[1] = h[0], condition[0]
    begins, layout = torch.ones(2, 1), torch.zeros(2, TINY.layout)
    mean = model.predict(h, condition, Where(begins, pens, layout)).mean * model.scale
    torch.testing.assert_close(mean[0] + pens[0], mean[1] + pens[1])
    mean = model.predict(h, condition, Where(0 * begins, pens, layout)).mean
    torch.testing.assert_close(mean[0], mean[1])


@torch.inference_mode()
def test_offsets_lie_on_the_grid(model: SketchDecoder) -> None:
    state = initial_state(TINY, 4)
    condition = torch.zeros(4, TINY.condition)
    for _ in range(30):
        state, _ = model.step(state, condition, **step_inputs(4))
        assert torch.equal(state.pen.position * 4, torch.round(state.pen.position * 4))
        assert torch.equal(state.pen.row[:, 2:].sum(dim=1), torch.ones(4))


@torch.inference_mode()
def test_end_is_barred_until_it_may() -> None:
    logits = torch.tensor([[-5.0, -5.0, 5.0]]).expand(1000, 3)
    noise = torch.linspace(1e-6, 1 - 1e-6, 1000)[:, None]
    barred = sample_pen(logits, noise, torch.zeros(1000, 1))
    free = sample_pen(logits, noise, torch.ones(1000, 1))
    assert barred[:, 2].sum() == 0
    assert free[:, 2].mean() > 0.99


def test_pen_is_sampled_as_often_as_it_is_likely() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).expand(10_000, 3)
    noise = torch.linspace(1e-6, 1 - 1e-6, 10_000)[:, None]
    shares = sample_pen(logits, noise, torch.ones(10_000, 1)).mean(dim=0)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=1e-3, rtol=0)


def test_condition_reads_every_level(model: SketchDecoder) -> None:
    vectors = data.token_vectors()
    tokens, mask = vectors.batch(["draw a cat", "add two ears", "add a long tail"])
    stack, stack_mask = torch.from_numpy(tokens)[None], torch.from_numpy(mask)[None]
    subject = torch.from_numpy(vectors.sentence("cat"))[None]
    full = model.encode(stack, stack_mask, subject)
    for level in range(3):
        without = stack_mask.clone()
        without[:, level] = 0
        assert (model.encode(stack, without, subject) - full).abs().max() > 1e-4


def test_ink_of_a_move_is_its_length() -> None:
    origin, target = torch.tensor([[64.0, 64.0]]), torch.tensor([[128.0, 64.0]])
    ink = splat(origin, target, torch.ones(1), 16).reshape(16, 16)
    assert ink.sum() == pytest.approx(4.0)  # 64 units are 4 cells
    assert ink.sum(dim=1).nonzero().flatten().tolist() == [3, 4]  # y = 64 lies between two rows


def test_lifted_pen_leaves_only_a_dot() -> None:
    ink = splat(torch.zeros(1, 2), torch.full((1, 2), 128.0), torch.zeros(1), 16).reshape(16, 16)
    assert ink.sum() == pytest.approx(0.25)
    assert ink[7:9, 7:9].sum() == pytest.approx(0.25)


def test_loss_is_the_density_of_a_gaussian() -> None:
    """One component without correlation: the closed form."""
    one = torch.zeros(1, 1, 1)
    head = Head(one, torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1, 2), 2.0), one,
                torch.zeros(1, 1, 3), torch.zeros(1, 1))  # fmt: skip
    rows = torch.tensor([[[10.0, -20.0, 1.0, 0.0, 0.0]]])
    found = losses(head, rows, torch.ones(1, 1), scale=10.0)
    expected = 0.5 * (1**2 + 2**2) / 4 + math.log(2 * math.pi * 4)
    assert found.offset.item() == pytest.approx(expected, abs=1e-5)
    assert found.pen.item() == pytest.approx(math.log(3))
    assert found.segment.item() == pytest.approx(math.log(2))


def test_matching_prefers_the_segments_own_instruction() -> None:
    """States that point where their conditions do cost nothing; swapped, they cost all of it."""
    matching = Matching(TINY.model_copy(update={"width": TINY.condition}), margin=0.5)
    torch.nn.init.eye_(matching.project.weight)
    encoded = torch.eye(TINY.condition)[:3]  # three segments, at right angles
    segment = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    valid = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]])
    assert matching(encoded[segment], encoded, segment, valid) == 0
    # A row after the end is not counted, wherever its state points.
    odd = encoded[segment].clone()
    odd[1, 3] = -100
    assert matching(odd, encoded, segment, valid) == 0
    # Each state points to the next segment's condition: two of six triplets are as wrong as can be.
    swapped = matching(encoded[segment].roll(1, dims=-1), encoded, segment, valid)
    assert swapped.item() == pytest.approx((4 * 0.5 + 2 * 2.5) / 6)
