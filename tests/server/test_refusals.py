"""Refusals in the log: the first at once, then those of a second together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakes import FakeClock
from hitree_server.refusals import Refusals

if TYPE_CHECKING:
    import pytest


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, int]]:
    """How many of each reason every line tells of."""
    reasons = ("OVERLOADED", "UNAVAILABLE")
    lines = [{r: n for r, n in vars(record).items() if r in reasons} for record in caplog.records]
    caplog.clear()
    return lines


def test_the_first_is_told_at_once_and_a_flood_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="hitree_server")
    clock = FakeClock()
    refusals = Refusals(clock)
    refusals.add("OVERLOADED")
    assert told(caplog) == [{"OVERLOADED": 1}]
    for _ in range(500):
        clock.advance(0.001)
        refusals.add("OVERLOADED")
    refusals.add("UNAVAILABLE")
    assert told(caplog) == []
    clock.advance(0.5)
    refusals.add("OVERLOADED")
    assert told(caplog) == [{"OVERLOADED": 501, "UNAVAILABLE": 1}]


def test_the_last_ones_are_told_by_whoever_asks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="hitree_server")
    clock = FakeClock()
    refusals = Refusals(clock)
    for _ in range(3):
        refusals.add("OVERLOADED")
    refusals.tell()
    clock.advance(1.0)
    assert told(caplog) == [{"OVERLOADED": 1}]
    refusals.tell()
    refusals.tell()
    assert told(caplog) == [{"OVERLOADED": 2}]
