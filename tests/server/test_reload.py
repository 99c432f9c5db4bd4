"""A bundle taken up while calls run: none is lost, and what cannot be loaded changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from hitree.errors import BundleCorrupt
from hitree.v1 import hitree_pb2 as pb
from server.conftest import MANIFEST, FakeDevice

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from hitree_server.backend import Backend
    from hitree_server.settings import Settings
    from server.conftest import Fakes, Serving

    NewServer = Callable[..., AbstractAsyncContextManager[Serving]]

DRAW = pb.DrawRequest(prompt="draw a cat", seed=1)


@pytest.fixture
def versions(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> list[str | Exception]:
    """The versions that the next loads find; an exception is what a load fails with."""
    coming: list[str | Exception] = []
    open_fake = fakes.open

    def open_next(settings: Settings) -> Backend:
        version = coming.pop(0)
        if isinstance(version, Exception):
            raise version
        fakes.device = FakeDevice()  # each engine has its own
        opened = open_fake(settings)
        return replace(opened, manifest=replace(MANIFEST, version=version))

    monkeypatch.setattr(fakes, "open", open_next)
    return coming


async def served(server: Serving) -> str:
    told = await server.rpc.ModelInfo(pb.ModelInfoRequest())
    return str(told.version)


async def until(version: str, server: Serving) -> None:
    async with asyncio.timeout(20):
        while await served(server) != version:
            await asyncio.sleep(0)


async def test_calls_end_with_the_bundle_that_they_began_with(
    fakes: Fakes, settings: Settings, new_server: NewServer, versions: list[Any]
) -> None:
    versions += ["1", "2"]
    async with new_server(fakes, settings) as server:
        device = fakes.device
        device.hold(after=6)
        events = aiter(server.rpc.Draw(DRAW))
        assert (await anext(events)).started.model_version == "1"
        os.kill(os.getpid(), signal.SIGHUP)
        await until("2", server)
        old, new = (backend.engine for backend in fakes.opened)
        assert old.ready
        device.gate.set()
        told = [event async for event in events]
        assert told[-1].WhichOneof("event") == "finished"
        async with asyncio.timeout(20):
            while old.ready:  # it is stopped once its last call has ended
                await asyncio.sleep(0)
        assert new.ready
        fresh = [event async for event in server.rpc.Draw(DRAW)]
        assert fresh[0].started.model_version == "2"
        assert fresh[-1].WhichOneof("event") == "finished"
        text = (await server.http.get("/metrics")).text
        assert text.count("# TYPE hitree_engine_ready ") == 1


async def test_a_bundle_that_cannot_be_loaded_changes_nothing(
    fakes: Fakes, settings: Settings, new_server: NewServer, versions: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    versions += ["1", BundleCorrupt("a file is not what it was"), "2"]
    async with new_server(fakes, settings) as server:
        await server.app.reload()
        assert await served(server) == "1"
        assert server.app.ready
        assert "reload failed" in caplog.text
        await server.app.reload()
        assert await served(server) == "2"


async def test_stopping_breaks_off_what_the_old_bundle_draws(
    fakes: Fakes, settings: Settings, new_server: NewServer, versions: list[Any]
) -> None:
    versions += ["1", "2"]
    quick = settings.model_copy(update={"drain_seconds": 0.0})
    async with new_server(fakes, quick) as server:
        device = fakes.device
        device.hold(after=6)
        events = aiter(server.rpc.Draw(DRAW))
        await anext(events)
        await server.app.reload()
        server.app.stopping.set()
        old = fakes.opened[0].engine
        while old.ready:
            await asyncio.sleep(0)
        device.gate.set()
        assert [event async for event in events][-1].error.reason == "UNAVAILABLE"
        await server.task
    assert not any(backend.engine.ready for backend in fakes.opened)
