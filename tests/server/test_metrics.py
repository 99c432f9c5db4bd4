"""Metrics: what a call leaves behind, on a registry of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fakes import FakeClock
from hitree.codec import ungrouped
from hitree.errors import EmptyPrompt, HiTreeError, InternalError, Overloaded
from hitree.v1 import hitree_pb2 as pb
from hitree_server.calls import Call, observed
from hitree_server.engine.stats import Stats
from hitree_server.metrics import Metrics

if TYPE_CHECKING:
    from hitree_server.service import Service
    from hitree_server.subjects import Recognition
    from server.conftest import Fakes

CALL = Call("one", door="http")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"hitree_{name}", labels)


def both(metrics: Metrics, name: str, **labels: str) -> list[float | None]:
    """A value of each of two engines."""
    return [value(metrics, name, bundle=bundle, **labels) for bundle in ("hitree@1", "hitree@2")]


def test_registries_are_apart() -> None:
    first, second = Metrics(), Metrics()
    first.rejected.labels("OVERLOADED").inc()
    assert value(first, "rejected_total", reason="OVERLOADED") == 1
    assert value(second, "rejected_total", reason="OVERLOADED") is None


def test_calls_are_counted_by_door_method_and_outcome() -> None:
    metrics = Metrics()
    with observed("Plan", CALL, metrics):
        pass
    with pytest.raises(EmptyPrompt), observed("Plan", CALL, metrics):
        raise EmptyPrompt("no words")
    with pytest.raises(InternalError), observed("Plan", CALL, metrics):
        raise ZeroDivisionError
    for code in ("OK", "EMPTY_PROMPT", "INTERNAL"):
        assert value(metrics, "calls_total", door="http", method="Plan", code=code) == 1
    assert value(metrics, "call_seconds_count", door="http", method="Plan") == 3
    assert value(metrics, "rejected_total", reason="INTERNAL") == 1


def test_engine_stats_are_read_at_the_scrape() -> None:
    metrics, stats, others = Metrics(), Stats(), Stats()
    metrics.watch({"hitree@1": stats, "hitree@2": others})
    stats.running, stats.points, others.points = 3, 70, 7
    stats.step_rows.observe(3)
    stats.step_rows.observe(5000)
    others.step_rows.observe(1)
    stats.finished["complete"] += 2
    others.finished["cancelled"] += 1
    assert both(metrics, "requests_running") == [3, 0]
    assert both(metrics, "points_total") == [70, 7]
    assert both(metrics, "step_rows_bucket", le="2.0") == [0, 1]
    assert both(metrics, "step_rows_bucket", le="4.0") == [1, 1]
    assert both(metrics, "step_rows_bucket", le="+Inf") == [2, 1]
    assert both(metrics, "step_rows_sum") == [5003, 1]
    assert both(metrics, "sequences_total", reason="complete") == [2, None]
    assert both(metrics, "sequences_total", reason="cancelled") == [None, 1]


def test_the_exposition_has_each_family_once() -> None:
    metrics = Metrics()
    metrics.watch({"hitree@1": Stats(ready=True), "hitree@2": Stats()})
    page = metrics.render().decode()
    assert 'hitree_engine_ready{bundle="hitree@1"} 1.0\n' in page
    assert 'hitree_engine_ready{bundle="hitree@2"} 0.0\n' in page
    types = [line for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    samples = [line.rpartition(" ")[0] for line in page.splitlines() if line[0] != "#"]
    assert len(samples) == len(set(samples))


def test_engines_that_are_replaced_are_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.watch({"hitree@1": Stats()})
    metrics.watch({"hitree@2": Stats()})
    assert both(metrics, "points_total") == [None, 0]


async def test_drawing_is_counted(service: Service) -> None:
    metrics = service.metrics
    request = pb.DrawRequest(prompt="draw a cat")
    points = [
        event.points async for group in service.draw(request, CALL) for event in ungrouped(group)
    ]
    assert value(metrics, "finished_total", reason="complete") == 1
    assert value(metrics, "draw_first_point_seconds_count") == 1
    assert value(metrics, "model_seconds_count", model="plan") == 1
    assert value(metrics, "model_seconds_count", model="condition") == 1
    assert sum(len(p.xs) for p in points) == 30


async def test_the_first_point_is_timed_from_the_call(
    service: Service, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, recognise = FakeClock(), fakes.models.recognise

    def slowly(prompt: str, nearest: bool) -> Recognition:
        clock.advance(5.0)  # planning
        return recognise(prompt, nearest)

    monkeypatch.setattr(fakes.models, "recognise", slowly)
    monkeypatch.setattr(time, "perf_counter", clock)
    assert [event async for event in service.draw(pb.DrawRequest(prompt="draw a cat"), CALL)]
    assert value(service.metrics, "draw_first_point_seconds_sum") == 5.0


@pytest.mark.parametrize(("error", "lines"), [(EmptyPrompt, 3), (Overloaded, 1)])
def test_refusals_under_overload_are_counted_but_not_logged_one_by_one(
    error: type[HiTreeError], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="hitree_server")
    metrics = Metrics()
    for _ in range(3):
        with pytest.raises(error), observed("Draw", CALL, metrics):
            raise error("no")
    assert len(caplog.records) == lines
    assert value(metrics, "rejected_total", reason=error.reason) == 3


def test_in_detail_every_refusal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="hitree_server.calls")
    metrics = Metrics()
    for _ in range(3):
        with pytest.raises(Overloaded), observed("Draw", CALL, metrics):
            raise Overloaded("no")
    calls = [record for record in caplog.records if record.name == "hitree_server.calls"]
    assert [record.levelname for record in calls] == ["DEBUG"] * 3
