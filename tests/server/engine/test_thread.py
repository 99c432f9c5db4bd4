"""The engine with its thread, and readers on an event loop."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from fakes import FakeDevice, points, spec, step_graph, stepped
from hitree.errors import Unavailable
from hitree_server.engine import Broken, Ended, Engine, EngineSettings, LeafStarted, SequenceSpec


async def alone(one: SequenceSpec) -> list[object]:
    engine = stepped()
    stream = engine.submit(one)
    engine.run()
    return [event async for event in stream]


def threaded(device: FakeDevice | None = None, **limits: int) -> Engine:
    engine = Engine(step_graph(), device or FakeDevice(), EngineSettings(**limits))
    engine.start()
    return engine


async def read(engine: Engine, one: SequenceSpec) -> list[object]:
    async with engine.submit(one) as stream:
        return [event async for event in stream]


async def test_the_thread_that_computes_steps_warms_up_as_well():
    device, threads = FakeDevice(), []
    device.before = lambda: threads.append(threading.current_thread())
    engine = threaded(device)
    warm = len(threads)
    try:
        await read(engine, spec(1))
    finally:
        await asyncio.to_thread(engine.stop)
    assert 0 < warm < len(threads)
    assert len(set(threads)) == 1


async def test_many_readers_share_the_batch():
    engine = threaded(max_rows=16)
    try:
        results = await asyncio.gather(*(read(engine, spec(seed)) for seed in range(40)))
    finally:
        await asyncio.to_thread(engine.stop, 5.0)
    for seed, events in enumerate(results):
        assert np.array_equal(points(events), points(await alone(spec(seed))))
    assert engine.stats.step_rows.mean > 4


async def test_pausing_and_resuming_across_threads_loses_nothing():
    engine = threaded(max_rows=8, buffer_events=2)
    try:
        async with asyncio.timeout(30):
            results = await asyncio.gather(*(read(engine, spec(seed)) for seed in range(30)))
    finally:
        await asyncio.to_thread(engine.stop)
    for seed, events in enumerate(results):
        assert points(events).tobytes() == points(await alone(spec(seed))).tobytes()


async def test_an_idle_engine_waits_and_does_not_spin(monkeypatch):
    ticks = []
    engine = Engine(step_graph(), FakeDevice())
    real_tick, real_wait = engine.tick, engine._changed.wait_for
    idle = threading.Event()
    waits = []

    def wait_for(told, timeout=None):
        waits.append(timeout)
        idle.set()
        return real_wait(told, timeout)

    monkeypatch.setattr(engine, "tick", lambda: (ticks.append(1), real_tick())[1])
    monkeypatch.setattr(engine._changed, "wait_for", wait_for)
    engine.start()
    assert await asyncio.to_thread(idle.wait, 5)
    assert (len(ticks), waits) == (1, [None])  # without a timeout: only a command ends it
    await read(engine, spec(1))
    await asyncio.to_thread(engine.stop)
    assert engine._thread is not None
    assert not engine._thread.is_alive()


async def test_stopping_finishes_what_runs_and_takes_on_nothing(monkeypatch):
    gate = threading.Event()
    device = FakeDevice()
    engine = threaded(device)
    device.before = lambda: gate.wait(5) or None
    reader = asyncio.ensure_future(read(engine, spec(1)))
    stopping, join = threading.Event(), engine._thread.join
    monkeypatch.setattr(engine._thread, "join", lambda: (stopping.set(), join()))
    stopper = asyncio.ensure_future(asyncio.to_thread(engine.stop, 30.0))
    assert await asyncio.to_thread(stopping.wait, 5)
    with pytest.raises(Unavailable):
        engine.submit(spec(2))
    assert not engine.ready
    gate.set()
    assert isinstance((await reader)[-1], Ended)
    await stopper
    engine.stop()  # idempotent


async def test_stopping_without_patience_breaks_off_what_runs():
    engine = threaded(FakeDevice(lift=0.0), buffer_events=2)
    stream = engine.submit(spec(1, max_points=2000, max_points_leaf=2000))
    first = await anext(stream)
    assert isinstance(first, LeafStarted)
    await asyncio.to_thread(engine.stop)
    last = [e async for e in stream][-1]
    assert isinstance(last, Broken)
    assert last.error.reason == "UNAVAILABLE"


async def test_a_bug_in_the_thread_ends_every_sequence_and_refuses_new_ones(monkeypatch, caplog):
    engine = threaded()
    monkeypatch.setattr(engine._scheduler, "commit", lambda *_: 1 / 0)
    events = await read(engine, spec(1))
    last = events[-1]
    assert isinstance(last, Broken)
    assert last.error.reason == "UNAVAILABLE"
    assert not engine.ready
    with pytest.raises(Unavailable):
        engine.submit(spec(2))
    assert "broke down" in caplog.text
    await asyncio.to_thread(engine.stop)
