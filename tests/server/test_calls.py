"""Calls: their deadlines, however long."""

from __future__ import annotations

import asyncio
import time

import pytest

from fakes import FakeDevice, spec, step_graph
from hitree_server.calls import LONGEST, Call
from hitree_server.engine import Engine, EngineSettings, LeafStarted


@pytest.mark.parametrize("timeout", [0.0, 60.0, 1e17, 1e300, float("inf")])
def test_a_call_has_its_time_but_no_more_than_can_be_waited_for(timeout: float) -> None:
    call = Call.of("http", timeout=timeout)
    assert call.deadline is not None
    assert call.deadline - time.monotonic() == pytest.approx(min(timeout, LONGEST), abs=5)


async def test_an_engine_waits_for_a_slow_reader_of_the_longest_call() -> None:
    settings = EngineSettings(buffer_events=2)
    engine = Engine(step_graph(), FakeDevice(lift=0.0), settings)
    engine.start()
    deadline = Call.of("http", timeout=1e17).deadline
    try:
        async with engine.submit(spec(1, max_points=500, deadline=deadline)) as stream:
            assert isinstance(await anext(stream), LeafStarted)
            async with asyncio.timeout(10):
                while not engine.stats.paused:
                    assert engine.ready
                    await asyncio.sleep(0)
            assert [event async for event in stream]
            assert engine.ready
    finally:
        await asyncio.to_thread(engine.stop)
