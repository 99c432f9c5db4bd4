"""Sixty-four drawings at once on one server: all finish, each as if it had been drawn alone."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import httpx
import numpy as np

from end_to_end.processes import long_plan
from hitree_sdk import AsyncClient

if TYPE_CHECKING:
    from end_to_end.processes import Served
    from hitree_sdk import Sketch

STREAMS = 64
POINTS = 220  # of every drawing


async def draw(client: AsyncClient, seed: int) -> Sketch:
    async with client.draw(long_plan(), seed=seed, max_points=POINTS) as stream:
        return await stream.result()


def steps(page: str) -> tuple[float, float]:
    """The number of steps and of rows in them so far, from the metrics page."""
    found = dict(re.findall(r"^hitree_step_rows_(count|sum)\{.*\} (\S+)$", page, re.MULTILINE))
    return float(found["count"]), float(found["sum"])


async def test_64_streams_draw_what_each_draws_alone(served: Served) -> None:
    async with AsyncClient(served.grpc) as client, httpx.AsyncClient() as http:
        before = steps((await http.get(f"{served.http}/metrics")).text)
        barrier = asyncio.Barrier(STREAMS)

        async def released(seed: int) -> Sketch:
            await barrier.wait()
            return await draw(client, seed)

        together = await asyncio.gather(*(released(seed) for seed in range(STREAMS)))
        after = steps((await http.get(f"{served.http}/metrics")).text)
        mean = (after[1] - before[1]) / (after[0] - before[0])
        print(f"{STREAMS} streams of {POINTS} points: mean step batch {mean:.1f}")  # noqa: T201
        assert mean > 16

        for seed, sketch in enumerate(together):
            alone = await draw(client, seed)
            assert sum(map(len, alone.strokes)) == POINTS
            assert len(alone.strokes) == len(sketch.strokes)
            for one, other in zip(alone.strokes, sketch.strokes, strict=True):
                np.testing.assert_array_equal(one, other)
    different = {sketch.strokes[0].tobytes() for sketch in together}
    assert len(different) > STREAMS / 2  # seeds matter: these are not 64 copies
