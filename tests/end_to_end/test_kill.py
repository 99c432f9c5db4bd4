"""A service that dies in the middle of its streams: its successor goes on with each of them."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from end_to_end.processes import free_ports, long_plan, serve, wait_until_ready
from hitree.events import Points
from hitree_sdk import Client

if TYPE_CHECKING:
    from end_to_end.processes import Served
    from hitree_sdk import Sketch

STREAMS = 32
POINTS = 800  # of every drawing: none is done when the service dies


def draws(at: Served) -> int:
    """How many drawings a service has made."""
    page = httpx.get(f"{at.http}/metrics").text
    # A client that comes back while the service starts is refused, and comes again.
    made = r'^hitree_calls_total{code="OK",.*method="Draw".*} (\S+)$'
    counts = re.findall(made, page, re.MULTILINE)
    return int(sum(map(float, counts)))


@pytest.mark.full
def test_no_point_is_lost_or_doubled_when_the_service_is_killed() -> None:
    at = free_ports()
    begun = threading.Barrier(STREAMS + 1)
    broken = threading.Event()

    def draw(seed: int) -> Sketch:
        """Draw, but stop reading after the first points until the service is dead."""
        with Client(at.grpc, retries=10) as client:
            stream = client.draw(long_plan(), seed=seed, max_points=POINTS)
            with stream:
                for event in stream:
                    if isinstance(event, Points) and not broken.is_set():
                        begun.wait(60)
                        assert broken.wait(60)
            return stream.result()

    def draw_whole(seed: int) -> Sketch:
        with Client(at.grpc) as client:
            return client.draw(long_plan(), seed=seed, max_points=POINTS).result()

    first = serve(at)
    try:
        wait_until_ready(at)
        with ThreadPoolExecutor(STREAMS) as pool:
            expected = list(pool.map(draw_whole, range(STREAMS)))
            drawn = [pool.submit(draw, seed) for seed in range(STREAMS)]
            begun.wait(60)
            first.kill()
            first.wait()
            broken.set()
            second = serve(at)
            sketches = [future.result(120) for future in drawn]
        assert draws(at) == STREAMS  # each was taken up
        second.terminate()
        assert second.wait() == 0
    finally:
        first.kill()
    for got, whole in zip(sketches, expected, strict=True):
        assert got.plan == whole.plan
        assert len(got.strokes) == len(whole.strokes)
        for one, other in zip(got.strokes, whole.strokes, strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
