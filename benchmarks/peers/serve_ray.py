"""Ray Serve with ``serve.batch``, in one of two ways (``PEER_BATCHED``).

``steps``: every request is a coroutine that asks for one step after another, and the steps of all
are one batched call. ``drawings``: the batched call is a generator that draws up to 64 requests
from the first point to the last, the documented way to batch streams; who comes later waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator  # noqa: TC003 - Ray reads the annotations
from pathlib import Path
from threading import Event

import ray
from drawing import ROWS, Job, Sketch, Studio
from ray import serve
from starlette.requests import Request  # noqa: TC002 - as above
from starlette.responses import StreamingResponse

WAIT_SECONDS = 0.005  # how long a batch of drawings waits for more of them


@serve.deployment(max_ongoing_requests=4 * ROWS)
class BatchedSteps:
    def __init__(self, bundle: str) -> None:
        self._batch = Studio(Path(bundle)).batch()

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._draw(Job.of(await request.json())))

    async def _draw(self, job: Job) -> AsyncIterator[str]:
        sketch = self._batch.join(job)
        while not sketch.over:
            if line := await self._step(sketch):
                yield line

    @serve.batch(max_batch_size=ROWS, batch_wait_timeout_s=0)
    async def _step(self, sketches: list[Sketch]) -> list[str | None]:
        self._batch.step()
        return [sketch.line() if sketch.due else None for sketch in sketches]


@serve.deployment(max_ongoing_requests=4 * ROWS)
class BatchedDrawings:
    def __init__(self, bundle: str) -> None:
        self._studio = Studio(Path(bundle))

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._draw(Job.of(await request.json())))

    @serve.batch(max_batch_size=ROWS, batch_wait_timeout_s=WAIT_SECONDS, max_concurrent_batches=4)
    async def _draw(self, jobs: list[Job]) -> AsyncIterator[list[str | type]]:
        batch = self._studio.batch(len(jobs))
        sketches = [batch.join(job) for job in jobs]
        for _ in batch.bursts():
            yield [StopIteration if sketch.over else sketch.line() for sketch in sketches]
            await asyncio.sleep(0)


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False, log_to_driver=False)
    options = {"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])}
    serve.start(http_options=options, logging_config={"log_level": "ERROR"})
    chosen = {"steps": BatchedSteps, "drawings": BatchedDrawings}[os.environ["PEER_BATCHED"]]
    serve.run(chosen.bind(os.environ["PEER_BUNDLE"]), route_prefix="/")
    over = Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    over.wait()
    serve.shutdown()
    ray.shutdown()
