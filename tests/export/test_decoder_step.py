"""The step as it is served computes what the network computes, in each of its forms."""

import pytest
import torch

from bundles import tiny_checkpoints
from hitree.stroke5 import UP
from hitree_export import networks, parity
from hitree_export.decoder_step import PENS, Condition, DecoderStep, widths
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


INPUTS = 7  # of the graph, before the state


def begins(rows):
    return rows[INPUTS][:, UP] > 0


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
    within = [x[~begins(rows)] for x in rows]
    alone = DecoderStep(decoder)(*within)
    for ours, all_ in zip(alone, DecoderStep(decoder)(*rows), strict=True):
        torch.testing.assert_close(ours, all_[~begins(rows)])


def heard(decoder, product, rows):
    condition, rest = rows[2], rows[INPUTS:]
    state = State(Pen(*rest[:PENS]), *rest[PENS:])
    return DecoderStep(decoder, product).hear(state, condition, torch.ones(ROWS, 1) > 0)[1]


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


def by_name(decoder, tensors):
    graph = decoder_graph(decoder)
    names = [*(t.name for t in graph.outputs), *(t.name for t in graph.state)]
    return dict(zip(names, tensors, strict=True))


def test_a_step_draws_what_as_many_steps_of_one_row_draw(decoder, rows):
    graph, step = decoder_graph(decoder), DecoderStep(decoder)
    inputs = dict(zip((t.name for t in (*graph.inputs, *graph.state)), rows, strict=True))
    found = by_name(decoder, step(*rows))
    state = {t.name: inputs[t.name] for t in graph.state}
    left = inputs["limit"].clone()
    made = torch.zeros_like(left)
    for index in range(graph.stride):
        one = {
            name: inputs[name][:, index : index + 1]
            for name in ("noise", "forced", "force", "may_end")
        }
        limit = (left > 0).float()
        drawn = by_name(decoder, step(*(inputs | one | {"limit": limit} | state).values()))
        state = {t.name: drawn[t.name] for t in graph.state}
        live = limit[:, 0] > 0
        torch.testing.assert_close(found["rows"][live, index], drawn["rows"][live, 0])
        assert torch.equal(found["segment_end"][live, index], drawn["segment_end"][live, 0])
        made += limit
        left = torch.where(drawn["segment_end"] > 0, 0, left - limit)
    assert torch.equal(found["made"], made)
    assert made.unique().tolist() == [*range(graph.stride + 1)]
    for name, value in state.items():
        torch.testing.assert_close(found[name], value)


def test_a_sequence_that_may_draw_nothing_stays_what_it_is(decoder, rows):
    graph = decoder_graph(decoder)
    found, none = by_name(decoder, DecoderStep(decoder)(*rows)), rows[INPUTS - 1][:, 0] == 0
    assert 0 < none.sum() < ROWS
    for tensor, before in zip(graph.state, rows[INPUTS:], strict=True):
        assert torch.equal(found[tensor.name][none], before[none]), tensor.name
    assert (found["made"][none] == 0).all()
