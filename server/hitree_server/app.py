"""The composition root: settings, backend, service, and the two doors in one event loop.

Start: both ports are bound, gRPC answers NOT_SERVING, the bundles are loaded, then calls are
welcome. Stop (SIGTERM, Ctrl-C): readiness flips while both doors still listen, drawings that run
may finish for ``drain_seconds``, then the doors close. A second signal skips the wait.
Reload (SIGHUP): the bundles are loaded anew beside those that are served, and take their place for
new calls; those that run end with the old ones.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

from hitree.errors import HiTreeError, InvalidInput, PortBusy
from hitree_server import logs
from hitree_server.backend import load, load_all
from hitree_server.http import door, untraced
from hitree_server.metrics import Metrics
from hitree_server.rpc.server import RpcServer
from hitree_server.service import Service
from hitree_server.settings import Settings
from hitree_server.tls import Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hitree_server.backend import Backend

HEALTH_SECONDS = 1.0  # between two looks at the engine for the gRPC health service
LAST_WORDS_SECONDS = 0.5  # for streams that were broken off to tell so
# What opening a port fails with where the host is no address, or one of another machine.
NO_ADDRESS = (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL)
BACKLOG = 2048
YOUNG = 50_000  # objects more than were freed, before the collector looks at the young ones

log = logs.logger(__name__)


class App:
    """One serving process: the service and its gRPC door; the HTTP door is built around it."""

    def __init__(
        self, settings: Settings, open_backend: Callable[[Settings], Backend] = load
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.service = Service(settings, self.metrics)
        self.tls = Tls.of(settings)
        self.stopping = asyncio.Event()  # set it to have the process drain and stop
        self.hurry = asyncio.Event()  # set it to have draining not wait
        self._open_backend = open_backend
        self._backends: tuple[Backend, ...] = ()
        self._rpc: RpcServer | None = None
        self._watch: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], Backend] = {}  # replaced, with calls to end
        self._reloading = asyncio.Lock()  # while bundles are loaded

    @property
    def ready(self) -> bool:
        """Whether calls are welcome: started, not stopping, and all engines work."""
        return self.service.ready and all(backend.engine.ready for backend in self._backends)

    @property
    def grpc_port(self) -> int:
        """The port that the gRPC door listens on; 0 before it does."""
        return self._rpc.port if self._rpc else 0

    async def start(self) -> None:
        """Open the gRPC door, load the bundles, welcome calls; does nothing the second time.

        Raises:
            PortBusy: the gRPC port is taken; nothing was started.
            HiTreeError: what `hitree_server.backend.load_all` raises; nothing is left running.
        """
        if self._rpc is not None:
            return
        settings = self.settings
        self._rpc = RpcServer(self.service, settings.host, settings.grpc_port, self.tls)
        await self._rpc.start()
        try:
            async with self._reloading:
                self._serve(await self._load())
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_health(self._rpc))

    async def reload(self) -> None:
        """Serve the bundles as they are now; one that cannot be loaded changes nothing."""
        async with self._reloading:
            try:
                fresh = await self._load()
            except HiTreeError as exc:
                log.error("reload failed", reason=exc.reason, why=exc.message)
                return
            before = self._backends
            self._serve(fresh)
            log.info("reloaded", bundles=", ".join(one.manifest.label for one in fresh))
            for backend in before:
                retiring = asyncio.create_task(self._retire(backend))
                self._retiring[retiring] = backend
                retiring.add_done_callback(self._retiring.pop)

    async def drain(self) -> None:
        """Refuse new calls, let those that run finish for ``drain_seconds``, break off the rest."""
        self.service.close()
        if self._rpc is not None:
            await self._rpc.set_ready(False)
        await self._idle(self.settings.drain_seconds)
        for backend in (*self._backends, *self._retiring.values()):
            await asyncio.to_thread(backend.engine.stop)
        self.hurry.set()  # whoever drains again need not wait again
        with suppress(TimeoutError):
            await asyncio.wait_for(self.service.idle(), LAST_WORDS_SECONDS)

    async def stop(self) -> None:
        """Drain, then stop the gRPC door and the threads; idempotent."""
        await self.drain()
        if self._watch is not None:
            self._watch.cancel()
        if self._rpc is not None:
            await self._rpc.stop(grace=LAST_WORDS_SECONDS)
        self.service.stop()

    async def _load(self) -> tuple[Backend, ...]:
        return await asyncio.to_thread(load_all, self.settings, self._open_backend)

    def _serve(self, backends: tuple[Backend, ...]) -> None:
        self._backends = backends
        self.service.open(*backends)

    async def _retire(self, backend: Backend) -> None:
        """Stop an engine once its last call has ended."""
        await self.service.idle(backend)
        await asyncio.to_thread(backend.engine.stop)

    async def _idle(self, seconds: float) -> None:
        """Wait until no call runs, for ``seconds`` at most, or until somebody is in a hurry."""
        waits = {asyncio.ensure_future(w) for w in (self.service.idle(), self.hurry.wait())}
        _, pending = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()

    async def _keep_health(self, rpc: RpcServer) -> None:
        """Keep the health service telling what the engine is like, the log who was refused."""
        while not self.stopping.is_set():
            await rpc.set_ready(self.ready)
            self.metrics.refusals.tell()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), HEALTH_SECONDS)


class HttpServer(uvicorn.Server):
    """Uvicorn in our event loop, which leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    http_port: int | None = None,
    bundle: str | Path | None = None,
    also: Sequence[str | Path] | None = None,
) -> None:
    """Serve until a signal; what is None comes from the environment or the default.

    ``also`` are folders of further bundles.

    Raises:
        PortBusy: one of the ports is taken; nothing was started.
        HiTreeError: a setting is wrong, or a bundle cannot be served.
    """
    settings = Settings.of(
        host=host, grpc_port=port, http_port=http_port, bundle=bundle, more_bundles=also
    )
    handler = logs.install(settings)
    try:
        with asyncio.Runner(loop_factory=quick_loop()) as runner:
            runner.run(_serve(settings))
    finally:
        logs.remove(handler)


def quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes event loops of uvloop, where there is one for the platform; both doors gain by it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(settings: Settings) -> None:
    await run(App(settings))


async def run(app: App, on_ready: Callable[[int], None] | None = None) -> None:
    """Run both doors of ``app`` until `App.stopping` is set; ``on_ready`` gets the HTTP port."""
    settings = app.settings
    with listen(settings.host, settings.http_port) as listener, _signals(app):
        await app.start()
        settle()
        server = http_server(app)
        stopping = asyncio.create_task(_stop(app, server))
        port = listener.getsockname()[1]
        log.info("serving", host=settings.host, grpc_port=app.grpc_port, http_port=port)
        if on_ready is not None:
            on_ready(port)
        try:
            await server.serve(sockets=[listener])
        finally:
            stopping.cancel()
            await app.stop()
    log.info("stopped")


def settle() -> None:
    """Keep the garbage collector from going through all that stays for the process' life.

    What calls leave behind is freed by counting; with thousands of events a second in the air,
    looking for cycles among them took a quarter of the event loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)


def http_server(app: App) -> HttpServer:
    """The HTTP door, ready to serve in this event loop."""
    config = uvicorn.Config(
        untraced(door(app).to_asgi()),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,  # what runs had its time while draining
        **(app.tls.uvicorn() if app.tls else {}),
    )
    return HttpServer(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket for the HTTP door.

    Raises:
        PortBusy: the port is taken.
        InvalidInput: this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        if exc.errno in NO_ADDRESS:
            raise InvalidInput(
                f"the host {host!r} is no address of this machine; choose another "
                "with --host or HITREE_HOST: 127.0.0.1 for this machine alone, 0.0.0.0 for others"
            ) from exc
        raise PortBusy(
            f"the HTTP port {port} on {host} cannot be opened ({os.strerror(exc.errno or 0)}); "
            "stop what listens there, or choose another with --http-port or HITREE_HTTP_PORT",
            details={"port": str(port), "door": "http"},
        ) from exc


async def _stop(app: App, server: HttpServer) -> None:
    await app.stopping.wait()
    await app.drain()
    server.should_exit = True


@contextmanager
def _signals(app: App) -> Iterator[None]:
    """Have SIGTERM and SIGINT drain and stop; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle() -> None:
        if app.stopping.is_set():
            app.hurry.set()
        app.stopping.set()

    def reload() -> None:
        reloads.append(asyncio.ensure_future(app.reload()))  # kept: a loop holds tasks weakly

    reloads: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: handle, signal.SIGINT: handle, signal.SIGHUP: reload}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
