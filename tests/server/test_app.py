"""The composition root: both doors in one loop over one engine; start, drain, stop, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hitree.bundle import MANIFEST
from hitree.errors import BundleCorrupt, BundleIncomplete, InvalidInput, MissingPackage, PortBusy
from hitree.v1 import hitree_pb2 as pb
from hitree_server import app as module
from hitree_server import logs
from hitree_server import settings as settings_module
from hitree_server.app import App, listen, quick_loop, run, serve

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_server.settings import Settings
    from server.conftest import Fakes, Serving

DRAW = pb.DrawRequest(prompt="draw a cat", seed=1)
BODY = {"prompt": "draw a cat", "seed": 1}


async def test_both_doors_share_one_loop_and_one_engine(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.fakes.opened[0].engine
    submit, loops = engine.submit, []

    def spied(spec: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        return submit(spec)

    monkeypatch.setattr(engine, "submit", spied)
    assert [event async for event in server.rpc.Draw(DRAW)]
    assert (await server.http.post("/v1/draw", json=BODY)).status_code == 200
    assert loops == [asyncio.get_running_loop()] * 2
    assert len(server.fakes.opened) == 1


async def test_busy_http_port_is_refused_before_anything_starts(
    fakes: Fakes, settings: Settings
) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        app = App(settings.model_copy(update={"http_port": port}), fakes.open)
        with pytest.raises(PortBusy, match=rf"HTTP port {port} .*--http-port") as caught:
            await run(app)
    assert caught.value.details == {"port": str(port), "door": "http"}
    assert not fakes.opened
    assert app.grpc_port == 0


@pytest.mark.parametrize("host", ["999.9.9.9", "192.0.2.1"])
def test_a_host_that_is_none_of_ours_is_no_busy_port(host: str) -> None:
    with pytest.raises(InvalidInput, match=f"host '{host}' is no address of this machine"):
        listen(host, 0)


async def test_busy_grpc_port_is_refused_before_the_bundle_is_loaded(
    fakes: Fakes, settings: Settings
) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        app = App(settings.model_copy(update={"grpc_port": port}), fakes.open)
        with pytest.raises(PortBusy, match=rf"gRPC port {port} .*--port"):
            await run(app)
    assert not fakes.opened


async def test_failed_loading_leaves_nothing_behind(settings: Settings) -> None:
    def fail(_: Settings) -> Any:
        raise BundleIncomplete("the bundle lacks a file")

    app = App(settings, fail)
    with pytest.raises(BundleIncomplete):
        await run(app)
    assert not app.ready
    with socket.create_server(("127.0.0.1", app.grpc_port)):
        pass  # the port is free again


async def test_grpc_answers_not_serving_while_the_bundle_is_loaded(
    fakes: Fakes, settings: Settings
) -> None:
    loop, loading = asyncio.get_running_loop(), asyncio.Event()
    fakes.models.gate.clear()

    def slowly(given: Settings) -> Any:
        loop.call_soon_threadsafe(loading.set)
        assert fakes.models.gate.wait(20)
        return fakes.open(given)

    app = App(settings, slowly)
    starting = asyncio.create_task(app.start())
    await loading.wait()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        assert await health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        fakes.models.gate.set()
        await starting
        await app.start()  # does nothing
        assert app.ready
    assert len(fakes.opened) == 1
    await app.stop()
    await app.stop()


async def test_signals_are_heeded_while_the_bundle_is_loaded(
    fakes: Fakes, settings: Settings
) -> None:
    loop, loading, opened = asyncio.get_running_loop(), asyncio.Event(), []
    fakes.models.gate.clear()

    def slowly(given: Settings) -> Any:
        loop.call_soon_threadsafe(loading.set)
        assert fakes.models.gate.wait(20)
        opened.append(fakes.open(given))
        return opened[-1]

    app = App(settings, slowly)
    running = asyncio.create_task(run(app))
    await loading.wait()
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.05)
    assert opened == []  # it is loaded again once that is done
    fakes.models.gate.set()
    async with asyncio.timeout(20):
        while len(opened) < 2 or not app.ready:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    assert not any(backend.engine.ready for backend in opened)


async def health(channel: grpc.aio.Channel) -> int:
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return reply.status


async def test_sigterm_drains(server: Serving) -> None:
    server.fakes.device.hold(after=6)
    events = aiter(server.rpc.Draw(DRAW))
    await anext(events)
    async with server.http.stream("POST", "/v1/draw", json=BODY) as response:
        lines = response.aiter_lines()
        await anext(lines)
        os.kill(os.getpid(), signal.SIGTERM)
        await server.app.stopping.wait()
        assert (await server.http.get("/readyz")).status_code == 503
        assert (await server.http.get("/livez")).status_code == 200
        assert await health(server.channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        refused = await server.http.post("/v1/draw", json=BODY)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "UNAVAILABLE")
        with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
            await server.rpc.Plan(pb.PlanRequest(prompt="draw a cat"))
        assert not server.task.done()
        server.fakes.device.gate.set()
        told = [line async for line in lines if line.startswith("event: ")]
    assert told[-1] == "event: finished"
    assert [event async for event in events][-1].WhichOneof("event") == "finished"
    await server.task
    assert not server.fakes.opened[0].engine.ready


async def test_second_signal_breaks_off_what_runs_and_both_doors_say_so(server: Serving) -> None:
    server.fakes.device.hold(after=6)
    events = aiter(server.rpc.Draw(DRAW))
    assert (await anext(events)).WhichOneof("event") == "started"
    async with server.http.stream("POST", "/v1/draw", json=BODY) as response:
        lines = response.aiter_lines()
        await anext(lines)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        while server.fakes.opened[0].engine.ready:  # until it is told to stop
            await asyncio.sleep(0)
        server.fakes.device.gate.set()
        told = [line async for line in lines if line.startswith("data: ")]
    last = [event async for event in events][-1]
    assert (last.WhichOneof("event"), last.error.reason) == ("error", "UNAVAILABLE")
    last = json.loads(told[-1].removeprefix("data: "))
    assert (last["kind"], last["error"]["reason"]) == ("error", "UNAVAILABLE")
    await server.task


async def test_draining_ends_by_itself(fakes: Fakes, settings: Settings, new_server: Any) -> None:
    async with new_server(fakes, settings.model_copy(update={"drain_seconds": 0.0})) as server:
        fakes.models.gate.clear()
        call = server.rpc.Plan(pb.PlanRequest(prompt="draw a cat"))
        assert await asyncio.to_thread(fakes.models.asked.wait, 20)
        server.app.stopping.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        fakes.models.gate.set()
        await server.task


async def test_engine_that_fails_flips_readiness(server: Serving) -> None:
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    server.fakes.opened[0].engine.stats.ready = False
    assert (await server.http.get("/readyz")).status_code == 503
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


def test_serve_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(settings_module.resources, "files", missing)
    with pytest.raises(MissingPackage, match="pip install hitree-bundle"):
        serve(port=0, http_port=0)


@pytest.mark.parametrize(
    ("manifest", "error", "says"),
    [
        (None, BundleIncomplete, "no bundle"),
        ("{", BundleCorrupt, "no manifest"),
        (json.dumps({"format": 99}), BundleCorrupt, "format 99"),
    ],
)
def test_serve_refuses_a_bundle_that_is_none(
    tmp_path: Path, manifest: str | None, error: type[Exception], says: str
) -> None:
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(error, match=says):
        serve(port=0, http_port=0, bundle=tmp_path)


def test_serve_refuses_settings_that_are_wrong() -> None:
    with pytest.raises(InvalidInput, match="setting grpc_port"):
        serve(port=-1)


def test_serve_runs_until_a_signal(monkeypatch: pytest.MonkeyPatch, fakes: Fakes) -> None:
    served: list[App] = []
    loops: list[object] = []

    async def once(app: App) -> None:
        served.append(app)
        loops.append(asyncio.get_running_loop())
        await run(app, lambda _: app.stopping.set())

    monkeypatch.setattr(module, "run", once)
    monkeypatch.setattr(module, "App", lambda settings: App(settings, fakes.open))
    serve(host="127.0.0.1", port=0, http_port=0, also=["owls@2"])
    assert served[0].settings.host == "127.0.0.1"
    assert [backend.manifest.label for backend in fakes.opened] == ["hitree@0.0.0+fake", "owls@2"]
    assert not any(backend.engine.ready for backend in fakes.opened)
    assert isinstance(loops[0], uvloop.Loop)


def test_without_uvloop_the_loop_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert quick_loop() is None


def test_bentoml_finds_its_service() -> None:
    from hitree_server import bento

    try:
        assert (bento.HiTree.name, bento.HiTree.config["workers"]) == ("hitree", 1)
        assert bento.HiTree.inner.start.__bentoml_startup_hook__
        assert bento.HiTree.inner.stop.__bentoml_shutdown_hook__
    finally:
        logs.remove(bento.handler)
