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


def begins(rows):
    return rows[6][:, UP] > 0


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
    _, _, condition, _, _, _, *rest = rows
    state = State(Pen(*rest[:PENS]), *rest[PENS:])
    return DecoderStep(decoder, product).hear(state, condition)[1]


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
