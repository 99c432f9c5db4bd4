"""A service in a thread of the tests' own process, where its counts can be looked at."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundles import VERSION, tiny_bundle
from hitree_server.app import App, run
from hitree_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

GAUGES = ("running", "waiting", "paused")


@dataclass(frozen=True)
class Inside:
    """A running service: where its doors are, and what is going on in it."""

    app: App
    loop: asyncio.AbstractEventLoop
    http_port: int

    @property
    def http(self) -> str:
        """Where the HTTP door is."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        """Where the gRPC door is."""
        return f"127.0.0.1:{self.app.grpc_port}"

    def settle(self) -> None:
        """Wait until no call runs and nothing is left of those that did."""
        asyncio.run_coroutine_threadsafe(self._idle(), self.loop).result(10)

    async def _idle(self) -> None:
        await self.app.service.idle()
        bundle = f"hitree@{VERSION}"
        while any(self.metric(f"hitree_requests_{name}", bundle=bundle) for name in GAUGES):
            await asyncio.sleep(0.001)  # a cancelled drawing leaves with the engine's next step

    def faults(self) -> float:
        """How many calls failed by a fault of the service's own."""
        return self.metric("hitree_rejected_total", reason="INTERNAL")

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the metrics; 0 where there is none yet."""
        return self.app.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def inside() -> Iterator[Inside]:
    """Serve the tiny bundle, with few rows and short queues, so that a leak is soon felt."""
    settings = Settings(
        bundle=tiny_bundle().path, grpc_port=0, http_port=0, max_rows=4, queue_limit=16,
        model_queue=4, drain_seconds=5,
    )  # fmt: skip
    up: Future[Inside] = Future()
    thread = threading.Thread(target=_serve, args=(settings, up))
    thread.start()
    made = up.result(60)
    try:
        yield made
    finally:
        made.loop.call_soon_threadsafe(made.app.stopping.set)
        thread.join()


def _serve(settings: Settings, up: Future[Inside]) -> None:
    async def serve() -> None:
        app, loop = App(settings), asyncio.get_running_loop()
        await run(app, lambda port: up.set_result(Inside(app, loop, port)))

    try:
        asyncio.run(serve())
    except BaseException as exc:
        if not up.done():
            up.set_exception(exc)
        raise
