"""Random scripts of submissions, cancellations, deadlines, pauses and errors on the engine."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest

from fakes import FakeClock, FakeDevice, points, settle, spec, step_graph, stepped
from hitree.errors import Overloaded
from hitree_server.engine import (
    Broken,
    Ended,
    LeafEnded,
    LeafStarted,
    PointsMade,
    SequenceSpec,
    Stream,
    StrokeEnded,
)

STRIDES = (1, 2, 4, 7)


@dataclass
class Reader:
    """A stream, what was asked of it, and what was read so far."""

    seed: int
    spec: SequenceSpec
    stream: Stream
    events: list[object] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Ended | Broken)

    async def read(self, most: int) -> None:
        """Read at most so many of the events that are there."""
        while most and self.stream._events:
            self.events.append(await anext(self.stream))
            most -= 1


def request(seed: int) -> SequenceSpec:
    """What is drawn for a seed: prefixes and budgets of all kinds."""
    dice = random.Random(seed)
    prefix = np.zeros((dice.choice([0, 0, 3, 9]), 5), np.float32)
    prefix[:, 3] = 1
    return spec(
        seed,
        prefix=prefix,
        first_stroke=len(prefix),
        max_points=dice.choice([1, 10, 60]),
        max_points_leaf=dice.choice([1, 5, 40]),
        priority=dice.choice([-1, 0, 0, 1]),
    )


@cache
def alone(seed: int) -> np.ndarray:
    """The points of a drawing that is made row by row with nobody else in the batch."""

    async def draw() -> list[object]:
        engine = stepped(max_rows=1)
        stream = engine.submit(request(seed))
        engine.run()
        return [event async for event in stream]

    return points(asyncio.run(draw()))


class Script:
    """One random run."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.clock = FakeClock()
        self.device = FakeDevice()
        self.crowded = seed % 3 == 0  # many drawings at a time, in steps that take long
        self.rows, self.slowest = (16, 0.06) if self.crowded else (6, 0.02)
        limits = {"max_rows": self.rows, "queue_limit": 12, "buffer_events": 6}
        graph = step_graph(stride=STRIDES[seed % len(STRIDES)])
        self.engine = stepped(self.device, self.clock, graph, **limits)
        self.device.before = self.meanwhile
        self.readers: list[Reader] = []
        self.refused = 0
        self.crossed = 0  # rows that went on to the next leaf inside a step
        self.ahead = 0  # steps of newcomers alone

    async def play(self) -> None:
        for _ in range(150):
            action = self.dice.choice([self.submit, self.cancel, self.step, self.step, self.read])
            await action()
            self.check_rows()
        for _ in range(500):
            self.engine.run()
            await settle()
            for reader in self.readers:
                await reader.read(5)
            if all(reader.over for reader in self.readers):
                return
        raise AssertionError("a sequence has no terminal event")

    async def submit(self) -> None:
        seed = self.dice.randrange(40)
        one = request(seed)
        if self.dice.random() < 0.2:
            late = self.clock.now + self.dice.random()
            one = spec(**{**vars(one), "deadline": late})
        try:
            self.readers.append(Reader(seed, one, self.engine.submit(one)))
        except Overloaded:
            self.refused += 1

    async def cancel(self) -> None:
        if self.readers and self.dice.random() < 0.3:
            self.dice.choice(self.readers).stream.cancel()

    async def step(self) -> None:
        if self.dice.random() < 0.02:
            self.device.failures = 1
        for _ in range(self.dice.randrange(6)):
            if self.crowded and self.engine._scheduler.demand < 12:
                await self.submit()
            self.engine.tick()
            self.ahead += self.engine._scheduler._went_ahead
            self.crossed += int((self.engine._slots.outputs["made"][:, 1] > 0).sum())

    async def read(self) -> None:
        await settle()
        for reader in self.dice.sample(self.readers, len(self.readers) // 2):
            await reader.read(self.dice.randrange(8))

    def meanwhile(self) -> None:
        """What happens while the device computes."""
        self.clock.advance(self.dice.random() * self.slowest)
        if self.readers and self.dice.random() < 0.02:
            self.dice.choice(self.readers).stream.cancel()

    def check_rows(self) -> None:
        slots = self.engine._slots
        assert slots.rows <= self.rows
        assert slots._row == {owner: row for row, owner in enumerate(slots.owners)}


@cache
def played(seed: int) -> Script:
    """A script that was played to its end."""
    script = Script(seed)
    asyncio.run(script.play())
    return script


def check_grammar(reader: Reader) -> None:
    """Leaves, strokes and points come in order, and one terminal event comes last."""
    leaf, stroke, inside = -1, reader.spec.first_stroke, False
    for event in reader.events[:-1]:
        if isinstance(event, LeafStarted):
            assert not inside
            assert event.leaf == leaf + 1
            leaf, inside = event.leaf, True
        elif isinstance(event, PointsMade):
            assert inside
            assert (event.leaf, event.stroke) == (leaf, stroke)
            assert 1 <= len(event.positions) == len(event.t_ms) <= 64
        elif isinstance(event, StrokeEnded):
            assert (event.leaf, event.stroke, inside) == (leaf, stroke, True)
            stroke += 1
        else:
            assert isinstance(event, LeafEnded)
            assert (event.leaf, event.end, inside) == (leaf, stroke, True)
            inside = False
    if isinstance(reader.events[-1], Ended):
        assert not inside
        assert reader.events[-1].strokes == stroke - reader.spec.first_stroke


def check_points(reader: Reader) -> None:
    """A drawing that was finished is the one made alone; one that broke off is its beginning."""
    made, expected = points(reader.events), alone(reader.seed)
    assert made.tobytes() == expected[: len(made)].tobytes()
    if isinstance(reader.events[-1], Ended):
        assert len(made) == len(expected) == reader.events[-1].points


@pytest.mark.parametrize("seed", range(25))
def test_invariants_hold_whatever_happens(seed):
    script = played(seed)
    for reader in script.readers:
        check_grammar(reader)
        check_points(reader)
    stats = script.engine.stats
    assert sum(stats.finished.values()) == len(script.readers)
    assert stats.rejected.total() == script.refused
    assert (stats.running, stats.waiting, stats.paused) == (0, 0, 0)
    assert script.engine._scheduler.demand == script.engine._slots.rows == 0
    assert not script.engine._streams._streams


def test_the_scripts_go_on_to_the_next_leaf_inside_steps():
    crossed = {stride: 0 for stride in STRIDES}
    for seed in range(25):
        crossed[STRIDES[seed % len(STRIDES)]] += played(seed).crossed
    assert [count > 20 for count in crossed.values()] == [False, True, True, True]


def test_newcomers_go_ahead_in_the_scripts():
    assert sum(played(seed).ahead for seed in range(25)) > 20


def test_the_scripts_reach_every_ending():
    reasons = {reason for seed in range(25) for reason in played(seed).engine.stats.finished}
    assert reasons == {"complete", "max_points", "cancelled", "deadline_exceeded", "unavailable"}
