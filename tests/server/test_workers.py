"""Work in threads stops when its call is over, and makes room for the next."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from hitree.errors import Cancelled, DeadlineExceeded, HiTreeError
from hitree_server.calls import Call
from hitree_server.errand import Errand, go_on
from hitree_server.metrics import Metrics
from hitree_server.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL = Call.of("embedded")


@pytest.fixture
def workers() -> Iterator[Workers]:
    """One thread, in whose way anything is that does not stop."""
    made = Workers(1, 8, Metrics())
    yield made
    made.close()


class Endless:
    """Work that looks whether to go on, for a minute at most."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended: HiTreeError | None = None

    def __call__(self) -> None:
        self.begun.set()
        try:
            for _ in range(60_000):
                go_on()
                threading.Event().wait(0.001)
        except HiTreeError as exc:
            self.ended = exc
            raise


async def test_work_of_a_cancelled_call_stops(workers: Workers) -> None:
    work = Endless()
    call = asyncio.create_task(workers.run("plan", CALL, work))
    assert await asyncio.to_thread(work.begun.wait, 20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(20):
        assert await workers.run("plan", CALL, lambda: "next") == "next"
    assert isinstance(work.ended, Cancelled)


async def test_work_stops_at_the_deadline(workers: Workers) -> None:
    work = Endless()
    with pytest.raises(DeadlineExceeded, match="annotate"):
        await workers.run("annotate", Call.of("embedded", timeout=0.5), work)
    async with asyncio.timeout(20):
        assert await workers.run("plan", CALL, lambda: "next") == "next"
    assert isinstance(work.ended, DeadlineExceeded)


def test_what_is_late_before_it_begins_does_not_begin() -> None:
    with pytest.raises(DeadlineExceeded), Errand("plan", Call.of("embedded", timeout=0)).begun():
        pytest.fail("it began")


def test_a_thread_without_an_errand_goes_on() -> None:
    errand = Errand("plan", CALL)
    with errand.begun():
        go_on()
    errand.call_off()
    go_on()
