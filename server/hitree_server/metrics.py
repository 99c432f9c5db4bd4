"""Prometheus metrics of one server, on a registry of its own."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from hitree.events import Failed, Finished, Points
from hitree_server.refusals import Refusals

if TYPE_CHECKING:
    from collections import Counter as Counts
    from collections.abc import Iterator, Mapping

    from hitree.events import DrawEvent
    from hitree_server.engine.stats import Histogram as EngineHistogram
    from hitree_server.engine.stats import Stats

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUNDLE = "bundle"  # the label that tells engines apart

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Everything that is counted, see ``docs/operations.md``; names start with ``hitree_``."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"hitree_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            name = f"hitree_{name}_seconds"
            return Histogram(name, text, labels, registry=registry, buckets=_SECONDS)

        self.calls = counter("calls", "Calls by door, method and outcome", "door", "method", "code")
        self.call_time = seconds("call", "Time of a call until its last byte", "door", "method")
        self.rejected = counter("rejected", "Calls refused or failed, by reason", "reason")
        self.finished = counter("finished", "Drawings that ended, by reason", "reason")
        self.first_point = seconds("draw_first_point", "From a Draw call to its first point")
        self.model_time = seconds("model", "Time of a model call", "model")
        self.refusals = Refusals()
        self._of_calls = cache(  # their labels are looked up once
            lambda door, method, code: (
                self.calls.labels(door, method, code),
                self.call_time.labels(door, method),
            )
        )
        self._engines: EngineCollector | None = None

    def watch(self, engines: Mapping[str, Stats]) -> None:
        """Show what engines count, too, in place of others; keys are the labels of bundles."""
        if self._engines is not None:
            self.registry.unregister(self._engines)
        self._engines = EngineCollector(engines)
        self.registry.register(self._engines)

    def call(self, door: str, method: str, code: str, seconds: float) -> None:
        """Count a call that took ``seconds``."""
        calls, times = self._of_calls(door, method, code)
        calls.inc()
        times.observe(seconds)

    @contextmanager
    def model(self, name: str) -> Iterator[None]:
        """Count and time a call of the model ``name``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.model_time.labels(name).observe(time.perf_counter() - began)

    def drawing(self, began: float) -> DrawingCount:
        """Count a drawing, whose call ``began`` (perf_counter)."""
        return DrawingCount(self, began)

    def render(self) -> bytes:
        """The exposition text, see `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class DrawingCount:
    """What is counted of one drawing while its events go by."""

    def __init__(self, metrics: Metrics, began: float) -> None:
        self._metrics = metrics
        self._began = began
        self._pointed = False

    def take(self, group: list[DrawEvent]) -> None:
        """Note the next events."""
        if not self._pointed and any(isinstance(event, Points) for event in group):
            self._pointed = True
            self._metrics.first_point.observe(time.perf_counter() - self._began)
        match group[-1]:
            case Finished(reason=reason):
                self._metrics.finished.labels(reason).inc()
            case Failed(error=error):
                self._metrics.finished.labels(error.reason.lower()).inc()


class EngineCollector(Collector):
    """The `Stats` of engines as Prometheus families, read at each scrape."""

    def __init__(self, engines: Mapping[str, Stats]) -> None:
        self._engines = engines  # by the label of their bundle

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for bundle, stats in self._engines.items():
            for family in _families(bundle, stats):
                if (known := families.setdefault(family.name, family)) is not family:
                    known.samples += family.samples
        yield from families.values()


def _families(bundle: str, stats: Stats) -> Iterator[Metric]:
    """What one engine counted."""
    yield from _values(
        GaugeMetricFamily,
        bundle,
        requests_running=("Drawings that own rows", stats.running),
        requests_waiting=("Drawings that wait for rows", stats.waiting),
        requests_paused=("Drawings whose reader is slow", stats.paused),
        engine_ready=("1 where drawings can be made", stats.ready),
    )
    yield from _values(
        CounterMetricFamily,
        bundle,
        steps=("Engine steps", stats.steps),
        steps_failed=("Engine steps that failed", stats.steps_failed),
        step_padding_rows=("Rows computed beyond the live ones", stats.step_padding),
        points=("Points drawn", stats.points),
    )
    yield from _histograms(
        bundle,
        step_rows=("Live rows of a step", stats.step_rows),
        step_seconds=("Time of a step on the device", stats.step_seconds),
        first_point_seconds=("From acceptance to the first point", stats.first_point_seconds),
        point_gap_seconds=("Between points of a drawing", stats.gap_seconds),
        queue_seconds=("From acceptance to the batch", stats.queue_seconds),
    )
    yield _by_reason(bundle, "sequences", "Sequences that ended", stats.finished)
    yield _by_reason(bundle, "sequences_refused", "Sequences not accepted", stats.rejected)


def _values(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    bundle: str,
    **values: tuple[str, float],
) -> Iterator[Metric]:
    for name, (text, value) in values.items():
        family = kind(f"hitree_{name}", text, labels=[BUNDLE])
        family.add_metric([bundle], value)
        yield family


def _histograms(bundle: str, **values: tuple[str, EngineHistogram]) -> Iterator[Metric]:
    for name, (text, histogram) in values.items():
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family = HistogramMetricFamily(f"hitree_{name}", text, labels=[BUNDLE])
        family.add_metric([bundle], buckets, histogram.total)
        yield family


def _by_reason(bundle: str, name: str, text: str, counts: Counts[str]) -> Metric:
    family = CounterMetricFamily(f"hitree_{name}", text, labels=[BUNDLE, "reason"])
    for reason, count in sorted(counts.copy().items()):
        family.add_metric([bundle, reason], count)
    return family
