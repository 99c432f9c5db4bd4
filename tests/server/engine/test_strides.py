"""Drawings by steps of several rows, against the same ones made row by row without an engine."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fakes import CONDITION, FakeClock, FakeDevice, flat, memory_graph, spec, stepped
from hitree.stroke5 import DOWN, DRAWING, NOTHING, SEGMENT, STROKE, UP
from hitree_server.engine import Leaf, noise
from hitree_server.engine.sequence import END, NO_END, SAMPLED
from hitree_server.engine.store import initial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hitree_server.engine import SequenceSpec

STRIDES = (1, 2, 3, 4, 7)
DRAWINGS = range(60)
CHANCES = {"lift": 0.35, "segment_end": 0.5}


class Device(FakeDevice):
    """Ends drawings with the pen down, too, and counts what it did."""

    def __init__(self) -> None:
        super().__init__(**CHANCES)
        self.crossed = self.twice = 0  # steps that went on to the next leaf, that ended it too

    def _sample(
        self, noise: np.ndarray, t: np.ndarray, may_end: np.ndarray, last: np.ndarray, *push: object
    ) -> np.ndarray:
        raised = last.copy()
        raised[:, UP] = 1
        return super()._sample(noise, t, may_end, raised, *push)

    def _run(self, i: Mapping[str, np.ndarray], o: Mapping[str, np.ndarray]) -> None:
        super()._run(i, o)
        made = o["made"].astype(int)
        ends = o["points"][np.arange(len(made)), made.sum(axis=1) - 1, 2]
        self.crossed += int((made[:, 1] > 0).sum())
        self.twice += int(((made[:, 1] > 0) & (ends == SEGMENT)).sum())


@dataclass
class Plain:
    """One drawing, made row by row."""

    spec: SequenceSpec
    told: list[tuple[object, ...]] = field(default_factory=list)  # as `flat` gives it
    counts: list[int] = field(default_factory=list)  # points at each of what is told
    rows: list[np.ndarray] = field(default_factory=list)  # that made points
    ends: list[int] = field(default_factory=list)  # with these
    finish: list[int] = field(default_factory=list)  # whether a leaf was over with these

    def __post_init__(self) -> None:
        self.device = Device()
        self.state = {t.name: initial(t)[None].astype(np.float32) for t in memory_graph().state}
        self.stroke, self.ticks = self.spec.first_stroke, 0
        for row in self.spec.prefix:
            self.once(self.spec.leaves[0], row, np.full((1, 5), 0.5, np.float32), may_end=False)
        reason = self.leaves()
        self.say("Ended", reason, self.stroke - self.spec.first_stroke, len(self.rows))

    def leaves(self) -> str:
        last = len(self.spec.leaves) - 1
        for at, leaf in enumerate(self.spec.leaves):
            self.say("LeafStarted", at)
            start = self.stroke
            exhausted = self.leaf(at, leaf, may_end=at == last)
            self.say("LeafEnded", at, start, self.stroke)
            if exhausted and (at < last or not self.over):
                return "max_points"
        return "complete"

    def leaf(self, at: int, leaf: Leaf, *, may_end: bool) -> bool:
        """Draw a leaf; says whether the drawing has all its points."""
        one, step, self.over = self.spec, 0, False
        self.state["row"][:, DOWN:] = 0, 1, 0  # no stroke crosses leaves
        while True:
            key = one.seed, one.candidate, leaf.node, step
            ends = self.once(leaf, None, noise.uniforms(*key, 5), may_end=may_end and step > 0)
            step += 1
            if ends == DRAWING:
                if self.ends[-1] == NOTHING:
                    self.lift(at)
                self.over = True
                return False
            self.point(at, ends)
            self.over = ends == SEGMENT or step == one.max_points_leaf
            exhausted = len(self.rows) == one.max_points
            if ends != NOTHING or self.over or exhausted:
                self.lift(at)
            self.finish.append(int(self.over))
            if self.over or exhausted:
                return exhausted

    def once(
        self, leaf: Leaf, row: np.ndarray | None, uniforms: np.ndarray, *, may_end: bool
    ) -> int:
        """Make a row, which may be given; returns what ends with it."""
        told = {
            "noise": uniforms.astype(np.float32),
            "temperature": np.full((1, 1), self.spec.temperature, np.float32),
            "condition": leaf.condition[None],
            "forced": np.zeros((1, 5), np.float32) if row is None else row[None],
            "force": np.full((1, 1), row is not None, np.float32),
            "may_end": np.array([float(may_end)]),
        }
        self.before = self.state["position"]
        self.state |= self.device._once(told, self.state)
        return int(self.device._ends(self.state["row"], told["noise"])[0])

    def point(self, at: int, ends: int) -> None:
        """Take in the point that a row made."""
        position = self.state["position"][0]
        way = np.hypot(*(position - self.before[0]).astype(np.float64))
        self.ticks += max(1, int(np.ceil(way / 8)))
        self.rows.append(self.state["row"][0].copy())
        self.ends.append(ends)
        self.say("point", position.tolist(), self.ticks * 1000 // 60, self.stroke, at)

    def lift(self, at: int) -> None:
        self.say("StrokeEnded", self.stroke, at)
        self.stroke += 1

    def say(self, *told: object) -> None:
        self.told.append(told)
        self.counts.append(len(self.rows))

    def after(self, known: int) -> list[tuple[object, ...]]:
        """What a reader is told who has so many points."""
        if not known:
            return self.told
        place = self.counts.index(known)  # the last point that is known
        return [("LeafStarted", self.told[place][-1]), *self.told[place + 1 :]]

    def resumed(self, known: int, recalled: int, dice: random.Random) -> SequenceSpec:
        """The drawing for a reader who has ``known`` points, the first of which are forced."""
        rows = np.array(self.rows[:recalled], np.float32).reshape(-1, 5)
        ends = [
            SAMPLED if dice.random() < 0.2 else (NO_END, END)[over]
            for over in self.finish[:recalled]
        ]
        return replace(
            self.spec, known=known, recalled=rows, recalled_ends=np.array(ends, np.int64)
        )


def request(seed: int) -> SequenceSpec:
    """What is drawn for a seed: leaves, canvases and budgets of all kinds."""
    dice = random.Random(seed)
    canvas = np.zeros((dice.choice([0, 0, 1, 4, 9]), 5), np.float32)
    for row in canvas:
        row[0], row[1], row[dice.choice([DOWN, UP])] = dice.randrange(-9, 9), dice.random(), 1
    canvas[:, 1] = np.rint(canvas[:, 1] * 4) / 4
    leaves = tuple(
        Leaf(node, np.full(CONDITION, dice.uniform(-0.5, 0.5), np.float32))
        for node in range(dice.choice([1, 2, 5, 9]))
    )
    return spec(
        seed,
        leaves=leaves,
        prefix=canvas,
        first_stroke=dice.choice([0, len(canvas)]),
        candidate=dice.choice([0, 3]),
        temperature=dice.choice([0.5, 1.0]),
        max_points=dice.choice([1, 2, 5, 9, 20, 100]),
        max_points_leaf=dice.choice([1, 2, 3, 4, 5, 8, 30]),
    )


@cache
def plain(seed: int) -> Plain:
    return Plain(request(seed))


async def drawn(device: Device, specs: list[SequenceSpec], stride: int) -> list[list[object]]:
    """The events of drawings that share a batch."""
    clock, dice = FakeClock(), random.Random(stride)
    device.before = lambda: clock.advance(dice.random() / 50)
    limits = {"max_rows": 7, "queue_limit": 999, "buffer_events": 999}
    engine = stepped(device, clock, memory_graph(stride), **limits)
    streams = [engine.submit(one) for one in specs]
    engine.run()
    return [[event async for event in stream] for stream in streams]


@pytest.mark.parametrize("stride", STRIDES)
async def test_a_drawing_is_the_one_that_is_made_row_by_row(stride):
    device = Device()
    found = await drawn(device, [request(seed) for seed in DRAWINGS], stride)
    for seed, events in zip(DRAWINGS, found, strict=True):
        assert flat(events) == plain(seed).told, seed
    assert (device.crossed > 20) == (device.twice > 5) == (stride > 1)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("chance", range(3))
async def test_so_is_what_follows_the_points_that_a_reader_has(stride, chance):
    dice, specs, expected = random.Random(chance), [], []
    for seed in DRAWINGS:
        whole = plain(seed)
        known = dice.randrange(1, len(whole.rows) + 1)
        recalled = dice.choice([0, known - 1, known, dice.randrange(known + 1)])
        specs.append(whole.resumed(known, recalled, dice))
        expected.append(whole.after(known))
    found = await drawn(Device(), specs, stride)
    for seed, events in zip(DRAWINGS, found, strict=True):
        assert flat(events) == expected[seed], seed


def test_the_drawings_are_of_all_kinds():
    endings = {(p.told[-1][1], p.ends[-1], p.finish[-1]) for p in map(plain, DRAWINGS)}
    by_a_row_without_a_point = {("complete", NOTHING, 0), ("complete", STROKE, 0)}
    by_a_budget = {("max_points", NOTHING, 0), ("complete", NOTHING, 1), ("max_points", NOTHING, 1)}
    assert by_a_row_without_a_point | by_a_budget | {("complete", SEGMENT, 1)} <= endings


async def test_a_longer_stride_takes_fewer_steps():
    def steps(stride: int) -> int:
        engine = stepped(FakeDevice(lift=0.6, segment_end=0.6), graph=memory_graph(stride))
        engine.submit(spec(5, leaves=spec().leaves * 20, max_points=200))
        engine.run()
        return engine.stats.steps

    one, four = steps(1), steps(4)
    assert four < one / 2.5, (one, four)  # leaves end after every third row
