from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from fakes import memory_graph, spec, step_graph
from hitree.bundle import Tensor
from hitree.errors import BundleCorrupt
from hitree_server.engine.sequence import Sequence
from hitree_server.engine.slots import Slots
from hitree_server.engine.step import Step


def sequence(number: int, **changes: object) -> Sequence:
    return Sequence(spec(number, **changes), number, 0.0)


def arrange(
    slots: Slots,
    *joins: Sequence,
    leave: tuple[Sequence, ...] = (),
    park: tuple[Sequence, ...] = (),
    turn: tuple[Sequence, ...] = (),
) -> None:
    """One step's changes."""
    slots.arrange(Step(0, park, leave, turn, joins, ()))


def paint(slots: Slots, *sequences: Sequence) -> None:
    """Give every row a value of its own."""
    for s in sequences:
        for array in slots.state.values():
            array[slots.owners.index(s)] = s.number
        slots.pens.step[slots.owners.index(s)] = s.number


def held(slots: Slots) -> list[float]:
    """What `paint` left in the live rows."""
    numbers = slots.state["h"][: slots.rows, 0]
    assert np.array_equal(numbers, slots.pens.step[: slots.rows])
    return numbers.tolist()


def numbers(slots: Slots) -> list[int]:
    return [s.number for s in slots.owners]


def test_a_fresh_row_holds_the_initial_state_and_the_first_leaf():
    slots = Slots(memory_graph(), 4)
    s = sequence(1, temperature=0.5)
    slots.state["memory"][:] = 9
    arrange(slots, s)
    assert slots.state["row"][0].tolist() == [0, 0, 0, 1, 0]
    assert slots.state["position"][0].tolist() == [128, 128]
    assert slots.state["memory"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert slots.inputs["temperature"][0] == 0.5
    assert np.array_equal(slots.inputs["condition"][0], s.spec.leaves[0].condition)


def test_the_last_sequence_moves_into_a_gap():
    slots, four = Slots(step_graph(), 8), [sequence(n) for n in range(4)]
    arrange(slots, *four)
    paint(slots, *four)
    arrange(slots, leave=(four[1],))
    assert numbers(slots) == held(slots) == [0, 3, 2]


def test_who_joins_gets_the_row_of_who_leaves_and_nobody_moves():
    slots, four = Slots(step_graph(), 4), [sequence(n) for n in range(4)]
    arrange(slots, *four)
    paint(slots, *four)
    fresh = [sequence(4, temperature=0.25), sequence(5)]
    arrange(slots, *fresh, leave=(four[2], four[0]))
    paint(slots, *fresh)
    assert numbers(slots) == held(slots) == [4, 1, 5, 3]
    assert slots.inputs["temperature"][:, 0].tolist() == [0.25, 1, 1, 1]


def test_who_turns_gets_the_condition_and_the_noise_of_its_leaf():
    slots, two = Slots(step_graph(), 4), [sequence(n) for n in range(2)]
    arrange(slots, *two)
    before = slots.pens.key[:2].tolist()
    two[1].leaf = 2
    arrange(slots, turn=(two[1],))
    assert np.array_equal(slots.inputs["condition"][1], two[1].spec.leaves[2].condition)
    assert slots.pens.key[0] == before[0]
    assert slots.pens.key[1] != before[1]
    assert slots.pens.last_leaf[:2].tolist() == [False, True]


def test_random_joins_and_leaves_keep_every_row_with_its_owner():
    dice = random.Random(0)
    for _ in range(60):
        slots, live, parked = Slots(step_graph(), 12), [], []
        fresh = map(sequence, range(1000))
        for _ in range(30):
            gone = dice.sample(live, dice.randrange(len(live) + 1))
            kept = [s for s in gone if dice.random() < 0.3]
            room = 12 - len(live) + len(gone)
            back = dice.sample(parked, min(len(parked), dice.randrange(room + 1)))
            joins = [*back, *islice(fresh, dice.randrange(room - len(back) + 1))]
            dice.shuffle(joins)
            leave = tuple(s for s in gone if s not in kept)
            arrange(slots, *joins, leave=leave, park=tuple(kept))
            paint(slots, *(s for s in joins if s not in back))
            live = [s for s in live if s not in gone] + joins
            parked = [s for s in parked if s not in back] + kept
            assert sorted(numbers(slots)) == sorted(s.number for s in live)
            assert numbers(slots) == held(slots)


def test_a_parked_sequence_comes_back_as_it_was():
    slots = Slots(memory_graph(), 4)
    a, b = sequence(7), sequence(2)
    arrange(slots, a)
    paint(slots, a)
    a.leaf = 1
    arrange(slots, turn=(a,), park=(a,))
    slots.pens.step[:] = 0
    assert slots.rows == 0
    arrange(slots, b)
    arrange(slots, a)
    assert slots.state["memory"][1].tolist() == [[7] * 3] * 2
    assert np.array_equal(slots.inputs["condition"][1], a.spec.leaves[1].condition)
    assert slots.pens.key[1] != slots.pens.key[0]
    assert a.snapshot is None


def test_the_prefix_of_a_sequence_outlives_those_of_others():
    slots = Slots(step_graph(), 2)
    long = sequence(0, prefix=np.full((200, 5), 7, np.float32))
    arrange(slots, long)
    for number in range(1, 40):
        short = sequence(number, prefix=np.full((20, 5), 1, np.float32))
        arrange(slots, short)
        arrange(slots, leave=(short,))
    pens = slots.pens
    kept = slots.prefixes.rows[pens.cursor[0] : pens.prefix_end[0]]
    assert len(kept) == 200
    assert (kept[:, :5] == 7).all()


def test_a_sequence_cannot_join_twice():
    slots, s = Slots(step_graph(), 4), sequence(1)
    arrange(slots, s)
    with pytest.raises(AssertionError, match="once"):
        arrange(slots, s)


def test_more_than_there_are_rows_cannot_join():
    slots = Slots(step_graph(), 2)
    arrange(slots, sequence(1))
    with pytest.raises(AssertionError, match="more rows"):
        arrange(slots, sequence(2), sequence(3))


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
