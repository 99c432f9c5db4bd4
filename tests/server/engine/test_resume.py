"""Drawings taken up where a reader lost them: no point missing, none twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fakes import FakeDevice, points, settle, spec, step_graph, stepped
from hitree.errors import InvalidInput
from hitree_server.engine import (
    Ended,
    LeafEnded,
    LeafStarted,
    PointsMade,
    SequenceSpec,
    StrokeEnded,
)
from hitree_server.engine.sequence import END, NO_END, SAMPLED

CENTRE = np.float32([128, 128])


@dataclass
class Drawn:
    """A drawing, point by point."""

    events: list[object]
    xy: np.ndarray  # (N, 2)
    t_ms: np.ndarray  # (N,)
    leaf: np.ndarray  # (N,) of every point
    over: np.ndarray  # (N,) whether its stroke ends with it


async def draw(one: SequenceSpec, among: int = 0, stride: int = 1) -> Drawn:
    """Draw ``one``, with others beside it."""
    engine = stepped(graph=step_graph(stride=stride))
    beside = [engine.submit(spec(100 + seed)) for seed in range(among)]
    stream = engine.submit(one)
    engine.run()
    events = [event async for event in stream]
    for other in beside:
        assert isinstance([event async for event in other][-1], Ended)
    made = [e for e in events if isinstance(e, PointsMade)]
    leaf, over = [], []
    for event in events:
        if isinstance(event, PointsMade):
            leaf += [event.leaf] * len(event.positions)
            over += [False] * len(event.positions)
        if isinstance(event, StrokeEnded) and over:
            over[-1] = True
    times = np.concatenate([e.t_ms for e in made]) if made else np.zeros(0)
    return Drawn(events, points(events), times, np.array(leaf), np.array(over))


def broken_off(one: SequenceSpec, whole: Drawn, known: int, *, told: bool) -> SequenceSpec:
    """``one`` taken up after ``known`` points; ``told``: that the last stroke is over, if it is."""
    forced = known if told and whole.over[known - 1] else known - 1
    before = np.concatenate([[CENTRE], whole.xy[: known - 1]])
    rows = np.zeros((forced, 5), np.float32)
    rows[:, :2] = (whole.xy[:known] - before)[:forced]
    rows[:, 3] = whole.over[:forced]
    rows[:, 2] = 1 - rows[:, 3]
    ends = np.full(forced, SAMPLED)
    ends[: known - 1] = np.diff(whole.leaf[:known])[: len(ends)] * END
    return spec(one.seed, recalled=rows, recalled_ends=ends, known=known)


def check(whole: Drawn, rest: Drawn, known: int) -> None:
    """The two together are one drawing."""
    assert rest.xy.tobytes() == whole.xy[known:].tobytes()
    assert rest.t_ms.tolist() == whole.t_ms[known:].tolist()
    assert rest.leaf.tolist() == whole.leaf[known:].tolist()
    assert rest.over.tolist() == whole.over[known:].tolist()
    told = [e for e in rest.events if isinstance(e, LeafStarted)]
    assert [e.leaf for e in told] == list(range(told[0].leaf, 3))
    assert rest.events[0] == told[0]
    for kind in (StrokeEnded, LeafEnded):
        ours = [e for e in rest.events if isinstance(e, kind)]
        theirs = [e for e in whole.events if isinstance(e, kind)]
        assert ours == theirs[len(theirs) - len(ours) :]
    first, second = whole.events[-1], rest.events[-1]
    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert (second.reason, second.strokes, second.points) == (
        first.reason, first.strokes, first.points,
    )  # fmt: skip


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("told", [True, False])
async def test_after_any_number_of_points_the_rest_is_drawn(
    seed: int, told: bool, stride: int
) -> None:
    whole = await draw(spec(seed))
    assert len(whole.xy) >= 8
    for known in range(1, len(whole.xy) + 1):
        one = broken_off(spec(seed), whole, known, told=told)
        rest = await draw(one, among=known % 3, stride=stride)
        check(whole, rest, known)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("seed", range(3))
async def test_without_the_points_themselves_noise_draws_them_again(seed: int, stride: int) -> None:
    whole = await draw(spec(seed))
    for known in range(1, len(whole.xy) + 1, 3):
        check(whole, await draw(spec(seed, known=known), stride=stride), known)


async def test_points_that_were_drawn_elsewhere_are_gone_on_from() -> None:
    """Another kind of processor drew them: they stay what they were, and the rest follows them."""
    whole = await draw(spec(3))
    known = int(np.flatnonzero(whole.over)[1]) + 1
    one = broken_off(spec(3), whole, known, told=True)
    one.recalled[0, :2] += 2  # the first point lay elsewhere
    rest = await draw(one)
    assert len(rest.xy) == len(whole.xy) - known
    np.testing.assert_allclose(rest.xy[0], whole.xy[known] + 2, atol=4)


async def test_a_resumed_drawing_ends_at_its_budget() -> None:
    whole = await draw(spec(3, max_points=7))
    rest = await draw(spec(3, max_points=7, known=4))
    assert rest.xy.tobytes() == whole.xy[4:].tobytes()
    assert rest.events[-1].reason == whole.events[-1].reason == "max_points"


@pytest.mark.parametrize(("known", "first"), [(1, 3), (3, 1), (4, 4), (6, 2), (8, 4)])
async def test_the_first_new_points_go_out_at_once_and_nothing_that_is_known(known, first) -> None:
    device = FakeDevice(lift=0.0)
    engine = stepped(device, graph=step_graph(stride=4))
    whole = engine.submit(spec(3, max_points=20))
    engine.run()
    xy = points([event async for event in whole])
    stream = engine.submit(spec(3, max_points=20, known=known))
    for _ in range(1 + known // 4):
        engine.tick()
    engine._streams.send()
    await settle()
    leaf, made = await stream.group()
    assert leaf == LeafStarted(0)
    assert made.positions.tobytes() == xy[known : known + first].tobytes()
    engine.tick()
    engine._streams.send()
    await settle()
    assert not stream._events  # the next ones wait for company
    engine.run()
    rest = await stream.group()
    assert points(rest).tobytes() == xy[known + first :].tobytes()


@pytest.mark.parametrize("stride", [1, 3])
async def test_leaves_end_as_is_known_and_not_as_is_sampled(stride: int) -> None:
    rows = np.zeros((4, 5), np.float32)
    rows[:, 3] = 1  # four dots
    always = FakeDevice(segment_end=1.0)
    for ends, leaf in (([NO_END] * 4, 0), ([NO_END, END, NO_END, NO_END], 1), ([SAMPLED] * 4, 2)):
        engine = stepped(always, graph=step_graph(stride=stride))
        one = spec(3, recalled=rows, recalled_ends=np.array(ends), known=4)
        stream = engine.submit(one)
        engine.run()
        events = [event async for event in stream]
        if leaf < 2:
            assert next(e for e in events if isinstance(e, LeafStarted)).leaf == leaf
        else:
            assert isinstance(events[-1], Ended)


@pytest.mark.parametrize(
    "wrong",
    [
        {"known": 1, "recalled": np.zeros((2, 5), np.float32), "recalled_ends": np.zeros(2, int)},
        {"known": 2, "recalled": np.zeros((2, 5), np.float32), "recalled_ends": np.zeros(1, int)},
        {"known": 2, "recalled": np.zeros((2, 4), np.float32), "recalled_ends": np.zeros(2, int)},
        {"known": 201},
    ],
)
def test_what_cannot_be_known_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        spec(3, **wrong).check(condition=3)
