from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fakes import (
    FakeClock,
    FakeDevice,
    SteppedEngine,
    flat,
    memory_graph,
    points,
    settle,
    spec,
    step_graph,
    stepped,
)
from hitree.errors import BundleCorrupt, HiTreeError, InvalidInput, Overloaded
from hitree_server.engine import (
    Broken,
    Ended,
    Leaf,
    LeafEnded,
    LeafStarted,
    PointsMade,
    SequenceSpec,
    Stream,
    StrokeEnded,
)

if TYPE_CHECKING:
    from hitree.bundle import StepGraph


def slow(graph: StepGraph | None = None, **limits: int) -> tuple[SteppedEngine, FakeDevice]:
    """An engine whose steps take long, and its device."""
    clock, device = FakeClock(), FakeDevice()
    device.before = lambda: clock.advance(0.02)
    return stepped(device, clock, graph, **limits), device


async def draw(engine: SteppedEngine, one: SequenceSpec) -> list[object]:
    stream = engine.submit(one)
    engine.run()
    return [event async for event in stream]


def error(events: list[object]) -> HiTreeError:
    assert isinstance(events[-1], Broken)
    return events[-1].error


async def test_a_drawing_tells_its_leaves_strokes_and_points_in_order():
    events = await draw(stepped(), spec(3))
    assert isinstance(events[-1], Ended)
    assert [e.leaf for e in events if isinstance(e, LeafStarted)] == [0, 1, 2]
    ends = [e for e in events if isinstance(e, LeafEnded)]
    assert [e.start for e in ends[1:]] == [e.end for e in ends[:-1]]
    strokes = [e.stroke for e in events if isinstance(e, StrokeEnded)]
    assert strokes == list(range(events[-1].strokes)) == list(range(ends[-1].end))
    assert len(points(events)) == events[-1].points
    times = np.concatenate([e.t_ms for e in events if isinstance(e, PointsMade)])
    assert (np.diff(times) >= 16).all()
    assert (points(events) * 4 % 1 == 0).all()


async def test_a_drawing_is_the_same_alone_and_among_staggered_others():
    specs = [spec(seed, temperature=1 + seed / 64) for seed in range(64)]
    alone = [points(await draw(stepped(), one)) for one in specs]
    crowd = stepped(max_rows=40)
    streams = []
    for index, one in enumerate(specs):
        streams.append(crowd.submit(one))
        if index % 5 == 0:
            crowd.tick()
    crowd.run()
    for expected, stream in zip(alone, streams, strict=True):
        assert points([e async for e in stream]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("stride", [1, 4])
async def test_a_drawing_is_the_same_for_newcomers_who_go_ahead(stride):
    graph, dice = memory_graph(stride), random.Random(stride)
    specs = [spec(seed, max_points=dice.choice([2, 9, 80])) for seed in range(90)]
    alone = [flat(await draw(stepped(graph=graph), one)) for one in specs]
    crowd, device = slow(graph, max_rows=90)
    streams = [crowd.submit(one) for one in specs[:8]]
    while len(streams) < len(specs):
        for _ in range(dice.choice([1, 1, 2, 5])):
            crowd.tick()
        streams += map(crowd.submit, specs[len(streams) :][: dice.choice([1, 1, 2, 3])])
    crowd.run()
    small = [one for one, other in pairwise(device.buckets[14:]) if 2 * one <= other]
    assert len(small) > 12
    for expected, stream in zip(alone, streams, strict=True):
        assert flat([e async for e in stream]) == expected


async def test_newcomers_have_their_first_points_before_a_step_of_all():
    crowd, device = slow(max_rows=9)
    early = [crowd.submit(spec(seed, max_points=200)) for seed in range(8)]
    for _ in range(3):
        crowd.tick()
    await settle()
    seen = [len(stream._events) for stream in early]
    late = crowd.submit(spec(99))
    crowd.tick()
    crowd.tick()
    assert device.buckets[-2:] == [1, 9]
    order = []
    for stream in (*early, late):
        receive = stream.receive
        stream.receive = lambda events, stream=stream, receive=receive: (
            order.append(stream),
            receive(events),
        )
    await settle()
    assert order[0] is late
    assert any(isinstance(event, PointsMade) for event in late._events)
    assert sum(map(len, (stream._events for stream in early))) > sum(seen)


async def test_a_step_of_newcomers_that_fails_breaks_them_alone():
    crowd, device = slow(max_rows=9)
    early = [crowd.submit(spec(seed)) for seed in range(8)]
    for _ in range(3):
        crowd.tick()
    late, device.failures = crowd.submit(spec(99)), 1
    crowd.run()
    assert isinstance([e async for e in late][-1], Broken)
    for seed, stream in enumerate(early):
        expected = flat(await draw(stepped(), spec(seed)))
        assert flat([e async for e in stream]) == expected


async def test_seed_candidate_node_condition_and_temperature_all_steer():
    base = points(await draw(stepped(), spec(3)))
    leaves = spec(3).leaves
    other_nodes = tuple(Leaf(leaf.node + 9, leaf.condition) for leaf in leaves)
    other_text = tuple(Leaf(leaf.node, leaf.condition + 1) for leaf in leaves)
    for change in (
        {"seed": 4},
        {"candidate": 1},
        {"leaves": other_nodes},
        {"leaves": other_text},
        {"temperature": 0.5},
    ):
        changed = points(await draw(stepped(), spec(**({"seed": 3} | change))))
        assert not np.array_equal(changed, base), change


async def test_an_extra_state_tensor_goes_round_with_its_row():
    device = FakeDevice()
    alone = [points(await draw(stepped(device, graph=memory_graph()), spec(n))) for n in range(12)]
    crowd = stepped(device, graph=memory_graph(), max_rows=10)
    streams = []
    for seed in range(12):
        streams.append(crowd.submit(spec(seed)))
        crowd.tick()
    crowd.run()
    for expected, stream in zip(alone, streams, strict=True):
        events = [e async for e in stream]
        assert np.array_equal(points(events), expected)
    assert crowd.stats.step_rows.mean > 4
    assert not np.array_equal(points(await draw(stepped(), spec(3))), alone[3])


async def test_a_prefix_is_forced_and_not_delivered():
    prefix = np.zeros((6, 5), np.float32)
    prefix[:, 0], prefix[:, 2] = 4, 1
    prefix[[2, 5], 2:4] = (0, 1)
    forced = []
    device = FakeDevice()
    engine = stepped(device)
    feeds = engine._slots.inputs
    device.before = lambda: forced.append(
        (float(feeds["force"][0, 0]), feeds["forced"][0, 0].copy())
    )
    events = await draw(engine, spec(3, prefix=prefix, first_stroke=2))
    assert [f for f, _ in forced[:7]] == [1, 1, 1, 1, 1, 1, 0]
    assert np.array_equal([row for _, row in forced[:6]], prefix)
    made = [e for e in events if isinstance(e, PointsMade)]
    assert made[0].stroke == 2
    assert abs(made[0].positions[0] - [152, 128]).max() < 40
    assert made[0].t_ms[0] < 200
    ended = events[-1]
    assert ended.points == len(points(events))
    assert ended.strokes == len([e for e in events if isinstance(e, StrokeEnded)])
    leaf = next(e for e in events if isinstance(e, LeafEnded))
    assert leaf.start == 2


async def test_prefixes_of_many_do_not_mix():
    def canvas(seed: int) -> SequenceSpec:
        prefix = np.zeros((seed * 5 % 13, 5), np.float32)
        prefix[:, 0], prefix[:, 3] = seed, 1
        return spec(seed, prefix=prefix)

    alone = [points(await draw(stepped(), canvas(seed))) for seed in range(20)]
    crowd = stepped(max_rows=7)
    streams = [crowd.submit(canvas(seed)) for seed in range(20)]
    crowd.run()
    for expected, stream in zip(alone, streams, strict=True):
        assert np.array_equal(points([e async for e in stream]), expected)


async def test_max_points_ends_the_drawing_in_good_order():
    events = await draw(stepped(FakeDevice(lift=0.0)), spec(3, max_points=30))
    assert [type(e) for e in events[-3:]] == [StrokeEnded, LeafEnded, Ended]
    assert (events[-1].reason, events[-1].points) == ("max_points", 30)


async def test_a_leafs_budget_closes_its_stroke_and_goes_on_to_the_next_leaf():
    device = FakeDevice(lift=0.0)
    engine = stepped(device)
    begun = []
    device.before = lambda: begun.append(engine._slots.inputs["begun"][0, 0])
    quiet = [Leaf(n, np.zeros(3, np.float32)) for n in (1, 2, 3)]
    events = await draw(engine, spec(3, leaves=tuple(quiet), max_points_leaf=7))
    per_leaf = [
        sum(len(e.positions) for e in events if isinstance(e, PointsMade) and e.leaf == leaf)
        for leaf in range(3)
    ]
    assert per_leaf == [7, 7, 7]
    assert [(e.start, e.end) for e in events if isinstance(e, LeafEnded)] == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]
    assert events[-1].reason == "complete"
    assert begun == [0, *[1] * 6] * 3


async def test_the_first_point_goes_out_at_once_and_the_rest_in_company():
    clock = FakeClock()
    device = FakeDevice(lift=0.0)
    device.before = lambda: clock.advance(0.004)
    engine = stepped(device, clock)
    stream = engine.submit(spec(3, max_points=150, max_points_leaf=150))
    engine.run()
    sizes = [len(e.positions) for e in [e async for e in stream] if isinstance(e, PointsMade)]
    assert sizes[0] == 1
    assert set(sizes[1:-1]) == {9}  # the oldest has waited for 8 steps, 32 ms


async def told_after(engine: SteppedEngine, stream: Stream, ticks: int) -> list[object]:
    """What a reader was told after so many steps more."""
    for _ in range(ticks):
        engine.tick()
    engine._streams.send()
    await settle()
    return await stream.group() if stream._events else []


def shape(events: list[object]) -> list[object]:
    """Events, with the number of points in place of the points."""
    return [(len(e.positions), *e[2:]) if isinstance(e, PointsMade) else e for e in events]


async def test_the_end_of_a_leaf_waits_for_its_points():
    clock = FakeClock()
    engine = stepped(FakeDevice(lift=0.0), clock)
    stream = engine.submit(spec(3, max_points_leaf=2))
    first = await told_after(engine, stream, 1)
    assert shape(first) == [LeafStarted(0), (1, 0, 0)]
    assert await told_after(engine, stream, 2) == []
    clock.advance(0.04)
    assert shape(await told_after(engine, stream, 1)) == [
        (1, 0, 0), StrokeEnded(0, 0), LeafEnded(0, 0, 1), LeafStarted(1),
        (2, 1, 1), StrokeEnded(1, 1), LeafEnded(1, 1, 2), LeafStarted(2),
    ]  # fmt: skip
    rest = await told_after(engine, stream, 2)
    assert shape(rest[:-1]) == [(2, 2, 2), StrokeEnded(2, 2), LeafEnded(2, 2, 3)]
    assert isinstance(rest[-1], Ended)


async def test_the_end_of_the_drawing_waits_for_nothing():
    engine = stepped(FakeDevice(lift=0.0), graph=step_graph(stride=4))
    stream = engine.submit(spec(3, max_points=6))
    assert shape(await told_after(engine, stream, 1)) == [LeafStarted(0), (4, 0, 0)]
    (made, *_, last) = await told_after(engine, stream, 1)
    assert (len(made.positions), last.points, last.reason) == (2, 6, "max_points")


async def test_two_leaves_may_end_in_one_step():
    engine = stepped(FakeDevice(lift=1.0, segment_end=1.0), graph=step_graph(stride=4))
    leaves = tuple(Leaf(node, np.zeros(3, np.float32)) for node in range(5))
    stream = engine.submit(spec(3, leaves=leaves))
    first = await told_after(engine, stream, 1)
    both = [
        (1, 0, 0), StrokeEnded(0, 0), LeafEnded(0, 0, 1), LeafStarted(1),
        (1, 1, 1), StrokeEnded(1, 1), LeafEnded(1, 1, 2),
    ]  # fmt: skip
    assert shape(first) == [LeafStarted(0), *both, LeafStarted(2)]
    rest = await told_after(engine, stream, 2)
    assert [e.leaf for e in rest if isinstance(e, LeafEnded)] == [2, 3, 4]
    assert (rest[-1].reason, rest[-1].points, engine.stats.steps) == ("complete", 5, 3)


async def test_timings_tell_the_wait_the_first_point_and_the_whole():
    clock = FakeClock()
    device = FakeDevice()
    device.before = lambda: clock.advance(0.010)
    engine = stepped(device, clock)
    stream = engine.submit(spec(3))
    clock.advance(0.5)
    engine.run()
    timings = [e async for e in stream][-1].timings
    assert timings.queued_ms == pytest.approx(500)
    assert timings.first_point_ms == pytest.approx(510)
    assert timings.total_ms > 600


async def test_a_cancellation_during_a_step_frees_the_row_at_the_next():
    device = FakeDevice()
    engine = stepped(device, max_rows=1)
    first, second = engine.submit(spec(1)), engine.submit(spec(2))
    engine.tick()
    device.before = first.cancel
    engine.tick()
    assert engine.stats.finished == {"cancelled": 1}
    device.before = lambda: None
    engine.tick()
    assert engine._slots.owners == [second.sequence]
    engine.run()
    assert error([e async for e in first]).reason == "CANCELLED"


async def test_a_deadline_ends_a_running_drawing():
    clock = FakeClock()
    device = FakeDevice(lift=0.0)
    device.before = lambda: clock.advance(0.01)
    events = await draw(stepped(device, clock), spec(1, deadline=clock.now + 0.5))
    assert error(events).reason == "DEADLINE_EXCEEDED"
    assert len(points(events)) > 10


async def test_a_failed_step_breaks_its_sequences_and_the_engine_lives():
    device = FakeDevice()
    engine = stepped(device, max_rows=2)
    streams = [engine.submit(spec(seed)) for seed in range(3)]
    engine.tick()
    device.failures = 1
    engine.run()
    ends = [[e async for e in stream][-1] for stream in streams]
    assert [type(e) for e in ends] == [Broken, Broken, Ended]
    assert ends[0].error.reason == "UNAVAILABLE"
    assert engine.ready
    assert engine.stats.steps_failed == 1


async def test_repeated_failure_flips_readiness_until_a_step_succeeds():
    device = FakeDevice()
    engine = stepped(device, max_rows=1)
    device.failures = 4
    for seed in range(3):
        assert engine.ready
        await draw(engine, spec(seed))
    assert not engine.ready
    engine._probe()
    assert not engine.ready
    engine._probe()
    assert engine.ready


async def test_a_full_engine_refuses_and_counts_it():
    engine = stepped(max_rows=1, queue_limit=2)
    for seed in range(3):
        engine.submit(spec(seed))
    with pytest.raises(Overloaded) as refused:
        engine.submit(spec(9))
    assert refused.value.retry_after is not None
    engine.run()
    engine.submit(spec(9))
    assert engine.stats.rejected == {"overloaded": 1}


async def test_what_was_begun_elsewhere_may_wait_where_others_are_refused():
    clock, device = FakeClock(), FakeDevice()
    device.before = lambda: clock.advance(0.01)
    engine = stepped(device, clock, max_rows=1, longest_wait=0)
    await draw(engine, spec(1))
    engine.submit(spec(2))
    with pytest.raises(Overloaded):
        engine.submit(spec(3))
    stream = engine.submit(spec(3, known=1))
    engine.run()
    assert isinstance([event async for event in stream][-1], Ended)


@pytest.mark.parametrize(
    "wrong",
    [
        {"leaves": ()},
        {"max_points": 0},
        {"prefix": np.zeros((3, 4), np.float32)},
        {"leaves": (Leaf(1, np.zeros(99, np.float32)),)},
        {"seed": -1},
        {"temperature": 0.0},
    ],
)
async def test_a_sequence_that_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(InvalidInput):
        stepped().submit(spec(**wrong))


def test_a_graph_that_cannot_compute_is_found_at_the_start():
    device = FakeDevice()
    device.failures = 1
    with pytest.raises(BundleCorrupt, match="on strike"):
        stepped(device)


async def test_statistics_count_steps_points_and_reasons():
    engine = stepped()
    events = [await draw(engine, spec(seed)) for seed in (1, 2)]
    stats = engine.stats
    assert stats.points == sum(len(points(e)) for e in events)
    assert stats.finished == {"complete": 2}
    assert stats.first_point_seconds.count == stats.queue_seconds.count == 2
    assert stats.step_rows.count == stats.steps == stats.step_seconds.count
    assert stats.step_rows.mean == 1
    assert (stats.running, stats.waiting, stats.paused) == (0, 0, 0)
