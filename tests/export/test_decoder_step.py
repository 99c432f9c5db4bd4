"""The step as it is served computes what the network computes, in each of its forms."""

import pytest
import torch

from bundles import tiny_checkpoints
from hitree.stroke5 import DOWN, DRAWING, NOTHING, ROW, SEGMENT, STROKE, UP
from hitree_export import graphs, networks, parity
from hitree_export.decoder_step import PENS, Condition, DecoderStep, ending, widths
from hitree_export.graphs import decoder_graph
from hitree_export.products import GEOMETRY, Gates, Half, Quantised, exact, reach
from hitree_training.models.decoder import Pen, State

ROWS = 64


@pytest.fixture(scope="module")
def decoder():
    return networks.load(**vars(tiny_checkpoints())).decoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def rows(decoder):
    graph = decoder_graph(decoder)
    feed = parity.mixed_rows(graph, ROWS, seed=3)
    return [torch.from_numpy(feed[t.name]) for t in (*graph.inputs, *graph.state)]


def seen(decoder):
    return Gates(decoder).seen.shape[1]


INPUTS = 8  # of the graph, before the state


def begins(rows):
    return (rows[INPUTS][:, UP] > 0) | (rows[INPUTS - 2][:, 0] < 1)


def test_a_prepared_condition_has_its_parts_side_by_side(decoder):
    condition = torch.randn(5, decoder.preset.condition)
    prepared = Condition(decoder).prepare(condition)
    assert prepared.shape == (5, sum(widths(decoder)))
    told = torch.split(prepared, widths(decoder), dim=-1)[-1]
    torch.testing.assert_close(told, decoder.layout.tell(condition))


def test_beginnings_alone_or_with_all_rows_come_to_the_same(decoder, rows):
    assert 0 < begins(rows).sum() < ROWS
    found, expected = DecoderStep(decoder)(*rows), DecoderStep(decoder, dense=True)(*rows)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_batches_in_which_no_stroke_begins_are_computed(decoder, rows):
    rows = [*rows[: INPUTS - 1], torch.tensor([[1.0, 0.0]]).repeat(ROWS, 1), *rows[INPUTS:]]
    within = [x[~begins(rows)] for x in rows]
    alone = DecoderStep(decoder)(*within)
    for ours, all_ in zip(alone, DecoderStep(decoder)(*rows), strict=True):
        torch.testing.assert_close(ours[:, :1], all_[~begins(rows)][:, :1])


def heard(decoder, product, rows):
    condition, rest, step = rows[2], rows[INPUTS:], DecoderStep(decoder, product)
    state = State(Pen(*rest[:PENS]), *rest[PENS:])
    return step.hear(state, step.parts(condition[:, 0]), torch.ones(ROWS, 1) > 0)[1]


def test_less_precision_says_nearly_the_same(decoder, rows):
    spread = heard(decoder, exact, rows).std()
    wide = torch.full((seen(decoder),), 3.0)
    for product, most in ((Half(decoder), 0.01), (Quantised(decoder, wide), 0.1)):
        off = (heard(decoder, product, rows) - heard(decoder, exact, rows)).std() / spread
        assert 0 < off < most, product


def test_what_lies_beyond_reach_is_clipped(decoder):
    product, gates = Quantised(decoder, torch.full((seen(decoder),), 0.5)), Gates(decoder)
    geometry, inside = torch.zeros(3, GEOMETRY), torch.full((3, seen(decoder)), 0.5)
    assert torch.equal(product(gates, geometry, 9 * inside), product(gates, geometry, inside))
    assert not torch.equal(product(gates, geometry, inside / 2), product(gates, geometry, inside))


def test_reach_is_over_all_that_is_seen(decoder):
    found = reach(decoder)
    assert found.shape == (seen(decoder),)
    assert (found > 0).all()
    assert found[-decoder.preset.width :].max() < 1.2  # an LSTM's output is below 1


def test_what_ends_with_a_row():
    flags = torch.cat([torch.zeros(3, DOWN), torch.eye(3)], dim=1)
    assert ending(flags, torch.zeros(3, 1))[:, 0].tolist() == [NOTHING, STROKE, DRAWING]
    assert ending(flags, torch.ones(3, 1))[:, 0].tolist() == [NOTHING, SEGMENT, DRAWING]


# ---- several rows --------------------------------------------------------------------------------


def inputs_of(decoder):
    """Mixed inputs of a step by name, half of which lift the pen first."""
    graph = decoder_graph(decoder)
    feed = parity.mixed_rows(graph, ROWS, seed=3)
    inputs = {t.name: torch.from_numpy(feed[t.name]) for t in (*graph.inputs, *graph.state)}
    inputs["forced"][::2, 0] = torch.eye(ROW)[UP]
    inputs["force"][::2, 0] = 1
    return inputs


def drawn(decoder, inputs):
    """What a step draws, bit for bit: it does the same products whatever strokes begin."""
    graph = decoder_graph(decoder)
    found = DecoderStep(decoder, dense=True)(*inputs.values())
    names = [*(t.name for t in graph.outputs), *(t.name for t in graph.state)]
    return dict(zip(names, found, strict=True))


def state_of(decoder, tensors):
    return {t.name: tensors[t.name] for t in decoder_graph(decoder).state}


def row_of(inputs, index, leaf, made, live):
    """Inputs for row ``index`` alone of sequences at a ``leaf`` that ``made`` rows (ROWS,)."""
    each, most = torch.arange(ROWS), inputs["forced"].shape[1] - 1
    noise = inputs["noise"][each, leaf, made.clamp(max=most)]
    begun = torch.where(leaf > 0, 0, inputs["begun"][:, 0])
    return inputs | {
        "noise": torch.stack([noise] * 2, dim=1).unsqueeze(2),
        "condition": torch.stack([inputs["condition"][each, leaf]] * 2, dim=1),
        "forced": inputs["forced"][:, index : index + 1],
        "force": inputs["force"][:, index : index + 1],
        "last": torch.stack([inputs["last"][each, leaf]] * 2, dim=1),
        "begun": torch.where(made > 0, 1, begun).unsqueeze(1),
        "limit": torch.stack([live.float(), torch.zeros(ROWS)], dim=1),
    }


@pytest.mark.parametrize("stride", [2, 5])
def test_a_step_draws_what_as_many_steps_of_one_row_draw(decoder, stride, monkeypatch):
    monkeypatch.setattr(graphs, "STRIDE", stride)
    inputs, each = inputs_of(decoder), torch.arange(ROWS)
    found, state = drawn(decoder, inputs), state_of(decoder, inputs)
    leaf, made = torch.zeros(ROWS, dtype=torch.int64), torch.zeros(ROWS, 2, dtype=torch.int64)
    over = torch.zeros(ROWS, dtype=torch.bool)
    for index in range(stride):
        live = ~over & (made[each, leaf] < inputs["limit"][each, leaf])
        one = drawn(decoder, row_of(inputs, index, leaf, made[each, leaf], live) | state)
        state = state_of(decoder, one)
        assert torch.equal(found["points"][live, index], one["points"][live, 0])
        made[each, leaf] += live
        ends = torch.where(live, one["points"][:, 0, 2], NOTHING)
        turns = (ends == SEGMENT) & (leaf == 0) & (inputs["limit"][:, 1] > 0)
        over |= (ends >= SEGMENT) & ~turns
        leaf += turns & (index < stride - 1)
    assert torch.equal(found["made"], made.float())
    assert made.sum(dim=1).unique().tolist() == [*range(stride + 1)]
    assert made[:, 1].max() == stride - 1
    for name, value in state.items():
        assert torch.equal(found[name], value), name


def test_a_step_crosses_to_the_next_leaf_as_its_caller_would(decoder):
    inputs, stride = inputs_of(decoder), decoder_graph(decoder).stride
    one, zero = torch.ones(ROWS, 1), torch.zeros(ROWS, 1)
    crossed = drawn(decoder, inputs | {"limit": torch.cat([stride * one, stride * one], dim=1)})
    first = drawn(decoder, inputs | {"limit": torch.cat([stride * one, zero], dim=1)})
    ends = first["points"][:, 0, 2] == SEGMENT
    assert 0 < ends.sum() < ROWS
    assert (first["made"][ends, 0] == 1).all()  # it stopped there
    assert (first["made"][:, 1] == 0).all()
    turned = {name: inputs[name].flip(1) for name in ("noise", "condition", "last")}
    turned |= {name: inputs[name].roll(-1, 1) for name in ("forced", "force")}
    left = (stride - 1) * ends.float().unsqueeze(1)
    turned |= {"begun": zero, "limit": torch.cat([left, zero], dim=1)}
    second = drawn(decoder, inputs | turned | state_of(decoder, first))
    compared = ends | (crossed["made"][:, 1] == 0)  # others cross later
    made = torch.cat([first["made"][:, :1], second["made"][:, :1]], dim=1)
    assert torch.equal(crossed["made"][compared], made[compared])
    there = torch.arange(stride - 1) < second["made"][:, :1]
    assert there.any(dim=1).equal(ends)
    assert torch.equal(crossed["points"][:, 1:][there], second["points"][:, :-1][there])
    for name, value in state_of(decoder, second).items():
        assert torch.equal(crossed[name][compared], value[compared]), name


def test_a_leaf_begins_with_the_pen_up(decoder):
    inputs = inputs_of(decoder)
    inputs["limit"].fill_(1)
    row = inputs["row"]
    lifted = torch.cat([row[:, :DOWN], torch.eye(ROW)[UP, DOWN:].repeat(ROWS, 1)], dim=1)
    assert (row[:, DOWN] > 0).any()
    found = drawn(decoder, inputs | {"begun": torch.zeros(ROWS, 1)})
    expected = drawn(decoder, inputs | {"begun": torch.zeros(ROWS, 1), "row": lifted})
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_only_the_last_leaf_ends_a_drawing_and_not_with_its_first_row(decoder):
    inputs, stride = inputs_of(decoder), decoder_graph(decoder).stride
    head = sum(widths(decoder)[:2])
    inputs["condition"][..., head - 2 : head] = 50  # the drawing ends if it may, segments anyway
    inputs["force"].fill_(0)
    inputs["limit"].fill_(stride)
    found, last = drawn(decoder, inputs), inputs["last"] > 0
    ends, made = found["points"][..., 2] == DRAWING, found["made"]
    assert torch.equal(ends[:, 0], last[:, 0] & (inputs["begun"][:, 0] > 0))
    goes_on, crosses = made[:, 0] > 1, made[:, 1] > 0
    assert torch.equal(ends[goes_on, 1], last[goes_on, 0])
    assert (crosses & last[:, 1]).any()
    assert not ends[crosses, 1].any()


def test_a_sequence_that_may_draw_nothing_stays_what_it_is(decoder):
    inputs = inputs_of(decoder)
    found, none = drawn(decoder, inputs), inputs["limit"][:, 0] == 0
    assert 0 < none.sum() < ROWS
    for name, before in state_of(decoder, inputs).items():
        assert torch.equal(found[name][none], before[none]), name
    assert (found["made"][none] == 0).all()
