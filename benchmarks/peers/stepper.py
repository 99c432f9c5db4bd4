"""Steps one batch on behalf of all the generators of an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drawing import Batch, Job, Sketch


class Stepper:
    """Makes steps for as long as there are drawings; belongs to one event loop."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._news: dict[Sketch, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None

    async def draw(self, job: Job) -> AsyncIterator[Sketch]:
        """The drawing, whenever there is something to take of it."""
        sketch, news = self._batch.join(job), asyncio.Event()
        self._news[sketch] = news
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        while not sketch.over:
            await news.wait()
            news.clear()
            yield sketch
        del self._news[sketch]

    async def _run(self) -> None:
        while self._batch.live:
            for sketch in self._batch.step():
                self._news[sketch].set()
            await asyncio.sleep(0)  # the generators send, requests come in
