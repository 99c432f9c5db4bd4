from __future__ import annotations

import numpy as np
import pytest

from fakes import FakeClock, FakeDevice, SteppedEngine, points, spec, step_graph, stepped
from hitree_server.engine import Broken, EngineSettings, Leaf, PointsMade
from hitree_server.engine.runner import Runner, StepError, buckets
from hitree_server.engine.sequence import END, NO_END, SAMPLED, Sequence
from hitree_server.engine.slots import Slots
from hitree_server.engine.step import Step


def step(*sequences: Sequence, **changes: tuple[Sequence, ...]) -> Step:
    parts = {"parks": (), "departures": (), "joins": ()} | changes
    return Step(number=0, running=sequences, **parts)


def sequences(count: int) -> tuple[Sequence, ...]:
    return tuple(Sequence(spec(n), n, 0.0) for n in range(count))


def test_buckets_are_powers_of_two_up_to_the_most_rows():
    assert buckets(1) == (1,)
    assert buckets(64) == (1, 2, 4, 8, 16, 32, 64)
    assert buckets(48) == (1, 2, 4, 8, 16, 32, 48)


def test_warming_up_computes_every_bucket_from_both_sides():
    device = FakeDevice()
    Runner(step_graph(), device, FakeClock()).warm_up(Slots(step_graph(), 12))
    assert device.buckets == [1, 1, 2, 2, 4, 4, 8, 8, 12, 12]


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (5, 8), (9, 12), (12, 12)])
def test_all_live_rows_are_one_call_of_the_smallest_bucket(rows, bucket):
    device, slots = FakeDevice(), Slots(step_graph(), 12)
    runner = Runner(step_graph(), device, FakeClock())
    live = sequences(rows)
    result = runner.run(step(*live, joins=live), slots)
    assert device.buckets == [bucket] == [result.bucket]
    assert {mark.sequence for mark in result.marks} == set(live)  # the first point, at once


def test_a_step_without_rows_is_not_computed():
    device, slots = FakeDevice(), Slots(step_graph(), 4)
    runner = Runner(step_graph(), device, FakeClock())
    (live,) = sequences(1)
    runner.run(step(live, joins=(live,)), slots)
    result = runner.run(step(departures=(live,)), slots)
    assert (result.bucket, result.marks, len(device.buckets)) == (0, (), 1)


def test_padding_may_draw_nothing():
    device, slots = FakeDevice(), Slots(step_graph(), 4)
    runner = Runner(step_graph(), device, FakeClock())
    live = sequences(4)
    runner.run(step(*live, joins=live), slots)
    runner.run(step(*live[:3], departures=live[3:]), slots)
    assert device.buckets == [4, 4]
    assert (slots.inputs["limit"][:, 0] > 0).tolist() == [True, True, True, False]
    assert slots.inputs["limit"][3].tolist() == [0, 0]
    assert slots.outputs["made"].tolist() == [[1, 0], [1, 0], [1, 0], [0, 0]]


async def told(one, stride):
    """The events of a drawing, but for how points are bundled."""
    engine = stepped(graph=step_graph(stride=stride))
    stream = engine.submit(one)
    engine.run()
    events = [event async for event in stream]
    made = [
        (*place, time, event.stroke, event.leaf)
        for event in events
        if isinstance(event, PointsMade)
        for place, time in zip(event.positions.tolist(), event.t_ms.tolist(), strict=True)
    ]
    return made, [event for event in events[:-1] if not isinstance(event, PointsMade)]


async def tellings(one, *names, **chances):
    """What every step of a drawing is told, by the names of its inputs; S is 4."""
    device = FakeDevice(**chances)
    engine = stepped(device, graph=step_graph(stride=4), max_rows=1)
    inputs, seen = engine._slots.inputs, []
    device.before = lambda: seen.append([inputs[name][0].tolist() for name in names])
    engine.submit(one)
    engine.run()
    return seen


async def test_a_step_is_told_what_it_may_draw_and_where_the_drawing_may_end():
    one = spec(1, max_points=16, max_points_leaf=6)
    seen = await tellings(one, "begun", "last", "limit", lift=0, segment_end=0)
    assert seen == [
        [[0], [0, 0], [6, 6]],
        [[1], [0, 0], [2, 6]],
        [[0], [0, 1], [6, 6]],
        [[1], [0, 1], [2, 6]],
        [[0], [1, 0], [4, 0]],
    ]


async def test_a_canvas_is_drawn_as_it_is_and_the_first_leaf_begins_after_it():
    prefix = np.zeros((6, 5), np.float32)
    prefix[:, 0], prefix[:, 2] = np.arange(6), 1
    seen = await tellings(
        spec(1, prefix=prefix, max_points=5), "begun", "force", "limit", lift=0, segment_end=0
    )
    assert seen[:2] == [[[1], [1] * 4, [4, 0]], [[1], [1] * 4, [2, 0]]]
    assert [(begun, force) for begun, force, _ in seen[2:]] == [([0], [0] * 4), ([1], [0] * 4)]


async def test_recalled_rows_are_forced_and_begin_their_leaf():
    rows = np.zeros((7, 5), np.float32)
    rows[:, 2] = 1
    ends = np.array([NO_END, END, NO_END, NO_END, NO_END, NO_END, SAMPLED])
    one = spec(1, recalled=rows, recalled_ends=ends, known=7, max_points=9)
    seen = await tellings(one, "begun", "force", "limit", "noise", lift=0, segment_end=0)
    assert [(begun, force[0], limit) for begun, force, limit, _ in seen[:4]] == [
        ([0], 1, [2, 0]),
        ([0], 1, [4, 0]),
        ([1], 1, [1, 0]),
        ([1], 0, [2, 0]),
    ]
    never = [[row[-1] == 1 for row in noise[0]] for *_, noise in seen]
    assert never[0][:2] == [True, False]
    assert never[1] == [True] * 4
    assert never[2][0] is False
    assert never[3] == [False] * 4


@pytest.mark.parametrize("budget", [2, 3, 7, 80])
@pytest.mark.parametrize("canvas", [0, 1, 6])
async def test_a_stride_changes_nothing_but_the_number_of_steps(budget, canvas):
    prefix = np.zeros((canvas, 5), np.float32)
    prefix[:, 0], prefix[:, 3] = 4, 1
    for seed in range(4):
        one = spec(seed, prefix=prefix, max_points_leaf=budget)
        expected = await told(one, 1)
        for stride in (2, 3, 5):
            assert await told(one, stride) == expected


async def test_steps_draw_their_whole_stride_where_nothing_ends():
    engine = stepped(FakeDevice(lift=0, segment_end=0), graph=step_graph(stride=4))
    engine.submit(spec(1, max_points=22, max_points_leaf=22))
    engine.run()
    assert (engine.stats.points, engine.stats.steps) == (22, 6)


def test_whatever_the_device_raises_is_one_error():
    device, slots = FakeDevice(), Slots(step_graph(), 4)
    device.failures = 1
    runner = Runner(step_graph(), device, FakeClock())
    (live,) = sequences(1)
    with pytest.raises(StepError, match="on strike"):
        runner.run(step(live, joins=(live,)), slots)


def test_a_step_that_is_not_what_the_slots_hold_is_a_bug():
    runner = Runner(step_graph(), FakeDevice(), FakeClock())
    (live,) = sequences(1)
    with pytest.raises(AssertionError, match="what the scheduler thinks"):
        runner.run(step(live), Slots(step_graph(), 4))


async def test_positions_that_are_not_finite_break_their_own_sequence_only():
    device = FakeDevice()
    device.poison = -7.0
    engine = SteppedEngine(step_graph(), device, EngineSettings(max_rows=4))
    engine.start()
    poisoned = (Leaf(1, np.full(3, -7, np.float32)),)
    bad, good = engine.submit(spec(1, leaves=poisoned)), engine.submit(spec(2))
    engine.run()
    events = [e async for e in bad]
    assert isinstance(events[-1], Broken)
    assert events[-1].error.reason == "INTERNAL"
    assert "not finite" in events[-1].error.message
    assert not len(points(events))
    alone = stepped()
    expected = alone.submit(spec(2))
    alone.run()
    assert (
        points([e async for e in good]).tobytes() == points([e async for e in expected]).tobytes()
    )
