"""Model calls run beside the event loop, and step aside for the engine."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from hitree_server.calls import Call
from hitree_server.metrics import Metrics
from hitree_server.workers import NICENESS, Workers


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
async def test_model_calls_have_a_lower_priority_than_the_rest_of_the_process() -> None:
    workers = Workers(1, 1, Metrics())
    before = niceness()
    assert await workers.run("plan", Call.of("embedded"), niceness) == before + NICENESS
    assert niceness() == before
    workers.close()
