from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fakes import guided_graph, spec, step_graph
from hitree.bundle import Tensor
from hitree.errors import BundleCorrupt
from hitree_server.engine.sequence import Sequence
from hitree_server.engine.slots import Slots


def sequence(number: int, rows: int = 1, **changes: object) -> Sequence:
    return Sequence(spec(number, rows=rows, **changes), number, 0.0)


def paint(slots: Slots, *sequences: Sequence) -> None:
    """Give every row a value of its own: the sequence's number, and a tenth for each row."""
    for s in sequences:
        rows = slots.span(s)
        for array in slots.state.values():
            for offset in range(s.spec.rows):
                array[rows.start + offset] = s.number + offset / 10


def held(slots: Slots, s: Sequence) -> list[float]:
    """What `paint` left in a sequence's rows, read from the last state tensor."""
    return [round(float(v), 1) for v in slots.state["h"][slots.span(s), 0]]


def contiguous(slots: Slots, *sequences: Sequence) -> bool:
    """Whether the rows of the sequences, and no others, lie from 0 on without a gap."""
    rows = sorted(row for s in sequences for row in range(*slots.span(s).indices(1000)))
    owners = [s for row in rows for s in sequences if row in range(*slots.span(s).indices(1000))]
    return rows == list(range(slots.rows)) and owners == slots.owners


def test_a_fresh_row_holds_the_initial_state_and_the_first_leaf():
    slots = Slots(guided_graph(), 4)
    s = sequence(1, temperature=0.5)
    slots.state["memory"][:] = 9
    slots.join(s)
    assert slots.state["row"][0].tolist() == [0, 0, 0, 1, 0]
    assert slots.state["position"][0].tolist() == [128, 128]
    assert slots.state["memory"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert slots.inputs["temperature"][0] == 0.5
    assert np.array_equal(slots.inputs["condition"][0], s.spec.leaves[0].condition)


def test_each_row_of_a_sequence_may_have_its_own_condition():
    slots = Slots(guided_graph(), 4)
    s = sequence(1, rows=2)
    leaf = replace(s.spec.leaves[0], condition=np.float32([[1, 1, 1], [0, 0, 0]]))
    slots.join(Sequence(replace(s.spec, leaves=(leaf,)), 1, 0.0))
    assert slots.inputs["condition"][:2].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_the_last_sequence_moves_into_a_gap():
    slots = Slots(step_graph(), 8)
    a, b, c, d = (sequence(n) for n in range(4))
    for s in (a, b, c, d):
        slots.join(s)
    paint(slots, a, b, c, d)
    slots.leave(b)
    assert slots.owners == [a, d, c]
    assert [held(slots, s) for s in (a, c, d)] == [[0.0], [2.0], [3.0]]


def test_sequences_of_other_widths_close_up_in_order():
    slots = Slots(step_graph(), 8)
    a, b, c = sequence(0, 1), sequence(1, 3), sequence(2, 2)
    for s in (a, b, c):
        slots.join(s)
    paint(slots, a, b, c)
    slots.leave(a)
    assert slots.owners == [b, b, b, c, c]
    assert held(slots, b) == [1.0, 1.1, 1.2]
    assert held(slots, c) == [2.0, 2.1]


def test_random_joins_and_leaves_keep_every_row_with_its_owner():
    rng = np.random.default_rng(0)
    for _ in range(30):
        slots, live = Slots(step_graph(), 12), []
        for number in range(60):
            if live and (rng.random() < 0.45 or slots.rows > 9):
                gone = live.pop(rng.integers(len(live)))
                (slots.park if rng.random() < 0.3 else slots.leave)(gone)
            else:
                live.append(sequence(number, int(rng.integers(1, 4))))
                slots.join(live[-1])
                paint(slots, live[-1])
            assert contiguous(slots, *live)
            for s in live:
                expected = [round(s.number + offset / 10, 1) for offset in range(s.spec.rows)]
                assert held(slots, s) == expected


def test_a_parked_sequence_comes_back_as_it_was():
    slots = Slots(guided_graph(), 4)
    a, b = sequence(1, rows=2), sequence(2, rows=2)
    slots.join(a)
    paint(slots, a)
    slots.pens.step[:2] = 7
    slots.park(a)
    assert slots.rows == 0
    slots.join(b)
    slots.join(a)
    assert held(slots, a) == [1.0, 1.1]
    assert slots.pens.step[2:4].tolist() == [7, 7]
    assert slots.pens.rank[:4].tolist() == [0, 1, 0, 1]
    assert a.snapshot is None


def test_the_prefix_of_a_sequence_outlives_those_of_others():
    slots = Slots(step_graph(), 2)
    long = sequence(0, prefix=np.full((200, 5), 7, np.float32))
    slots.join(long)
    for number in range(1, 40):
        short = sequence(number, prefix=np.full((20, 5), 1, np.float32))
        slots.join(short)
        slots.leave(short)
    pens = slots.pens
    kept = slots.prefixes.rows[pens.cursor[0] : pens.prefix_end[0]]
    assert len(kept) == 200
    assert (kept[:, :5] == 7).all()


def test_a_sequence_cannot_join_twice():
    slots, s = Slots(step_graph(), 4), sequence(1)
    slots.join(s)
    with pytest.raises(AssertionError, match="once"):
        slots.join(s)


def test_more_rows_than_there_are_cannot_join():
    slots = Slots(step_graph(), 4)
    slots.join(sequence(1, rows=3))
    with pytest.raises(AssertionError, match="more rows"):
        slots.join(sequence(2, rows=2))


def test_a_step_reads_one_buffer_and_writes_the_other():
    slots = Slots(step_graph(), 4)
    written = slots.results(2)["h_out"]
    written[:] = 5
    assert not slots.feeds(2)["h"].any()
    slots.flip()
    assert (slots.feeds(2)["h"] == 5).all()
    assert slots.feeds(2)["h"].base is written.base


@pytest.mark.parametrize("wrong", ["unknown", "missing"])
def test_a_graph_with_other_roles_is_refused_by_name(wrong):
    graph = step_graph()
    inputs = (*graph.inputs, Tensor("mood", (1,))) if wrong == "unknown" else graph.inputs[1:]
    name = {"unknown": "mood", "missing": "noise"}[wrong]
    with pytest.raises(BundleCorrupt, match=name):
        Slots(replace(graph, inputs=inputs), 4)
