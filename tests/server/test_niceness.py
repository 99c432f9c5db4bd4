"""Who computes gives way to the doors."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from fakes import FakeDevice, spec, step_graph
from hitree_server.calls import Call
from hitree_server.engine import Engine
from hitree_server.metrics import Metrics
from hitree_server.niceness import ENGINE, MODELS
from hitree_server.workers import Workers

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux a thread has a priority of its own"
)


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


async def test_the_engine_and_the_models_give_way_to_the_doors() -> None:
    before, seen = priority(), []
    device = FakeDevice()
    engine = Engine(step_graph(), device)
    engine.start()
    device.before = lambda: seen.append(priority())
    async with engine.submit(spec(1, max_points=3)) as stream:
        assert [event async for event in stream]
    await asyncio.to_thread(engine.stop)
    assert set(seen) == {min(19, before + ENGINE)}
    workers = Workers(2, 2, Metrics())
    assert await workers.run("plan", Call.of("embedded"), priority) == min(19, before + MODELS)
    workers.close()
    assert priority() == before
