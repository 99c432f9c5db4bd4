from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from fakes import memory_graph, spec, step_graph
from hitree.bundle import Tensor
from hitree.errors import BundleCorrupt
from hitree_server.engine import noise
from hitree_server.engine.sequence import Sequence
from hitree_server.engine.slots import INPUTS, Slots
from hitree_server.engine.step import Step


def sequence(number: int, **changes: object) -> Sequence:
    return Sequence(spec(number, **changes), number, 0.0)


def arrange(
    slots: Slots,
    *joins: Sequence,
    leave: tuple[Sequence, ...] = (),
    park: tuple[Sequence, ...] = (),
    ahead: bool = False,
) -> None:
    """One step's changes."""
    slots.arrange(Step(0, park, leave, joins, (), ahead))


def state(slots: Slots) -> dict[str, np.ndarray]:
    """What the next step reads of the graph's state."""
    feeds = slots.feeds(slots.max_rows)
    return {name: array for name, array in feeds.items() if name not in INPUTS}


def columns(slots: Slots) -> list[np.ndarray]:
    """All that belongs to a row and outlives a step."""
    kept = [slots.inputs[name] for name in ("condition", "temperature", "last")]
    return [*state(slots).values(), *kept, *slots.pens.columns]


def paint(slots: Slots, *sequences: Sequence) -> None:
    """Give every row a value of its own."""
    for s in sequences:
        for column in columns(slots):
            column[slots.owners.index(s)] = s.number


def held(slots: Slots) -> list[float]:
    """What `paint` left in the live rows."""
    numbers = slots.pens.step[: slots.rows]
    for column in columns(slots):
        expected = numbers.reshape(-1, *[1] * (column.ndim - 1))
        assert (column[: slots.rows] == expected).all()
    return numbers.tolist()


def numbers(slots: Slots) -> list[int]:
    return [s.number for s in slots.owners]


def test_a_fresh_row_holds_the_initial_state_and_the_first_leaf():
    slots = Slots(memory_graph(), 4)
    s = sequence(1, temperature=0.5)
    state(slots)["memory"][:] = 9
    arrange(slots, s)
    assert state(slots)["row"][0].tolist() == [0, 0, 0, 1, 0]
    assert state(slots)["position"][0].tolist() == [128, 128]
    assert state(slots)["memory"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert slots.inputs["temperature"][0] == 0.5
    for place in (0, 1):
        condition = slots.inputs["condition"][0, place]
        assert np.array_equal(condition, s.spec.leaves[place].condition)
    assert tuple(slots.pens.keys[0]) == s.keys[:2]
    assert (slots.pens.leaves_left[0], slots.pens.left[0]) == (2, 200)


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
    assert slots.inputs["temperature"][:, 0].tolist() == [0.25, 1, 1, 3]
    paint(slots, *fresh)
    assert numbers(slots) == held(slots) == [4, 1, 5, 3]


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_who_turns_gets_the_conditions_and_the_noise_of_its_leaf_and_the_next(leaf):
    slots, three = Slots(step_graph(), 4), [sequence(n) for n in range(3)]
    arrange(slots, *three)
    pens, inputs, others = slots.pens, slots.inputs, [0, 2]
    before = [array[others].copy() for array in (inputs["condition"], inputs["last"], pens.keys)]
    pens.leaves_left[1] = 2 - leaf
    slots.turn(np.array([1]))
    ahead = three[1].spec.leaves[leaf : leaf + 2]
    for place, each in enumerate(ahead):
        assert np.array_equal(inputs["condition"][1, place], each.condition)
        assert pens.keys[1, place] == noise.key(1, 0, each.node)
    assert inputs["last"][1].tolist() == [leaf == 2, leaf == 1]
    after = [array[others] for array in (inputs["condition"], inputs["last"], pens.keys)]
    assert all(map(np.array_equal, after, before))


def test_the_only_leaf_is_the_last_one_from_the_start():
    slots = Slots(step_graph(), 2)
    arrange(slots, sequence(1, leaves=spec().leaves[:1]), sequence(2, leaves=spec().leaves[:2]))
    assert slots.inputs["last"].tolist() == [[1, 0], [0, 1]]


def test_turning_nobody_changes_nothing():
    slots = Slots(step_graph(), 2)
    arrange(slots, sequence(1))
    paint(slots, slots.owners[0])
    slots.turn(np.zeros(0, np.int64))
    assert held(slots) == [1]


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
            ahead = dice.random() < 0.5
            arrange(slots, *joins, leave=leave, park=tuple(kept), ahead=ahead)
            if ahead:
                assert slots.owners[: len(joins)] == joins
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
    arrange(slots, park=(a,))
    for column in columns(slots):
        column[:] = 0
    assert slots.rows == 0
    arrange(slots, b)
    arrange(slots, a)
    paint(slots, b)
    assert numbers(slots) == held(slots) == [2, 7]
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
