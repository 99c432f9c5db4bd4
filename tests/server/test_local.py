"""The embedded transport: two views of one service, on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hitree.errors import (
    BundleIncomplete,
    DeadlineExceeded,
    InternalError,
    Unavailable,
    Unimplemented,
)
from hitree.v1 import hitree_pb2 as pb
from hitree_server import local
from hitree_server.backend import load_all
from hitree_server.local import EmbeddedTransport, Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hitree_server.settings import Settings
    from server.conftest import Fakes

PLAN = pb.PlanRequest(prompt="draw a cat")
DRAW = pb.DrawRequest(prompt="draw a cat", seed=1)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, fakes: Fakes, settings: Settings) -> Iterator[Fakes]:
    """The process' own home, over fakes."""
    monkeypatch.setattr(local, "load_all", lambda _: [fakes.open(settings)])
    yield fakes
    fakes.release()
    local.close()


def test_engine_starts_with_the_first_call_and_is_one(only: Fakes) -> None:
    first, second = local.open_transport(), local.open_transport()
    assert not only.opened
    first.sync.unary("Plan", PLAN, timeout=20)
    second.sync.unary("Plan", PLAN, timeout=20)
    first.sync.close()
    assert list(second.sync.stream("Draw", DRAW, timeout=20))
    assert len(only.opened) == 1


def test_further_bundles_of_the_environment_are_there(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HITREE_MORE_BUNDLES", "owls@2")
    monkeypatch.setattr(local, "load_all", lambda settings: load_all(settings, fakes.open))
    transport = local.open_transport()
    chosen = pb.PlanRequest(prompt="draw a cat", bundle={"name": "owls"})
    assert transport.sync.unary("Plan", chosen, timeout=20).model_version == "2"
    assert transport.sync.unary("Plan", PLAN, timeout=20).model_version == "0.0.0+fake"
    local.close()
    assert not any(backend.engine.ready for backend in fakes.opened)


def test_closing_stops_the_engine_and_a_later_call_starts_another(only: Fakes) -> None:
    transport = local.open_transport()
    transport.sync.unary("Plan", PLAN, timeout=None)
    local.close()
    assert not only.opened[0].engine.ready
    assert not [thread for thread in threading.enumerate() if thread.name == "hitree-embedded"]
    transport.sync.unary("Plan", PLAN, timeout=None)
    assert len(only.opened) == 2


def test_what_loading_raises_reaches_the_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HITREE_BUNDLE", str(tmp_path / "none"))
    with pytest.raises(BundleIncomplete, match="none"):
        local.open_transport().sync.unary("Plan", PLAN, timeout=20)


async def test_events_come_while_the_drawing_is_made(
    embedded: EmbeddedTransport, fakes: Fakes
) -> None:
    fakes.device.hold(after=3)
    events = embedded.aio.stream("Draw", DRAW, timeout=20)
    kinds = [(await anext(events)).WhichOneof("event") for _ in range(4)]
    assert kinds == ["started", "plan", "node_started", "points"]
    fakes.device.gate.set()
    assert [event async for event in events][-1].WhichOneof("event") == "finished"


async def test_leaving_cancels_the_drawing(embedded: EmbeddedTransport, fakes: Fakes) -> None:
    fakes.device.hold(after=3)
    events: Any = embedded.aio.stream("Draw", DRAW, timeout=20)
    await anext(events)
    await events.aclose()
    await asyncio.to_thread(leave, embedded)
    fakes.device.gate.set()
    assert [event async for event in embedded.aio.stream("Draw", DRAW, timeout=20)]
    assert fakes.opened[0].engine.stats.finished["cancelled"] == 2


def leave(embedded: EmbeddedTransport) -> None:
    events: Any = embedded.sync.stream("Draw", DRAW, timeout=20)
    next(events)
    events.close()


async def test_cancelling_the_caller_cancels_the_call(
    embedded: EmbeddedTransport, fakes: Fakes
) -> None:
    fakes.models.gate.clear()
    call = asyncio.create_task(embedded.aio.unary("Plan", PLAN, timeout=20))
    assert await asyncio.to_thread(fakes.models.asked.wait, 20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_timeout_is_the_deadline(embedded: EmbeddedTransport, fakes: Fakes) -> None:
    fakes.models.gate.clear()
    with pytest.raises(DeadlineExceeded):
        embedded.sync.unary("Plan", PLAN, timeout=0.05)


def test_fault_is_an_internal_error(embedded: EmbeddedTransport, fakes: Fakes) -> None:
    fakes.models.fault = ZeroDivisionError("a bug")
    with pytest.raises(InternalError, match="the service failed on request"):
        embedded.sync.unary("Plan", PLAN, timeout=20)


def test_unknown_methods_are_unimplemented(embedded: EmbeddedTransport) -> None:
    with pytest.raises(Unimplemented):
        embedded.sync.unary("Nothing", PLAN, timeout=20)
    with pytest.raises(Unimplemented):
        list(embedded.sync.stream("Redraw", pb.RedrawRequest(), timeout=20))
    with pytest.raises(Unimplemented):
        list(embedded.sync.stream("Nothing", PLAN, timeout=20))


def test_closing_breaks_off_what_runs(fakes: Fakes, settings: Settings) -> None:
    home = Home([fakes.open(settings)], settings)
    transport = EmbeddedTransport(lambda: home)
    fakes.models.gate.clear()
    failed: list[Exception] = []

    def call() -> None:
        try:
            transport.sync.unary("Plan", PLAN, timeout=20)
        except Unavailable as exc:
            failed.append(exc)

    caller = threading.Thread(target=call)
    caller.start()
    assert fakes.models.asked.wait(20)
    home.close()
    caller.join()
    assert "closed" in str(failed[0])
