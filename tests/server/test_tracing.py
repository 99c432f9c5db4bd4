"""Traces: one from the caller through the door to the models, where somebody asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hitree.errors import UnknownSubject
from hitree_sdk import AsyncClient
from hitree_server import tracing

if TYPE_CHECKING:
    from server.conftest import Serving


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is traced while the test runs; the process keeps its provider, which is none."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("tests"))
    return kept


def named(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


@pytest.mark.parametrize("door", ["grpc", "http"])
async def test_a_call_goes_on_with_the_callers_trace(
    server: Serving, spans: InMemorySpanExporter, door: str
) -> None:
    ports = {"grpc": server.app.grpc_port, "http": server.http_port}
    caller = TracerProvider().get_tracer("caller").start_span("teaching a class")
    async with AsyncClient(f"{door}://127.0.0.1:{ports[door]}") as client:
        with trace.use_span(caller):
            sketch = await client.draw("draw a cat", seed=1).result()
    made = named(spans)
    call = made["hitree.v1.HiTree/Draw"]
    assert call.parent is not None
    assert call.parent.span_id == caller.get_span_context().span_id
    assert call.attributes is not None
    assert call.attributes["hitree.door"] == door
    assert {"model plan", "model condition"} < made.keys()
    assert all(span.context.trace_id == call.context.trace_id for span in made.values())
    below = made["model plan"].parent
    assert below is not None
    assert below.span_id == call.context.span_id
    (drawn,) = call.events
    assert drawn.attributes is not None
    assert drawn.attributes["hitree.points"] == sum(map(len, sketch.strokes))
    assert drawn.attributes["hitree.queued_ms"] >= 0


async def test_an_error_is_the_status_of_its_call(
    server: Serving, spans: InMemorySpanExporter
) -> None:
    async with AsyncClient(f"grpc://127.0.0.1:{server.app.grpc_port}") as client:
        with pytest.raises(UnknownSubject):
            await client.plan("draw a car")
    call = named(spans)["hitree.v1.HiTree/Plan"]
    assert call.attributes is not None
    assert call.attributes["hitree.reason"] == "UNKNOWN_SUBJECT"
    assert not call.status.is_ok
    assert call.parent is None


def test_by_default_nothing_is_traced() -> None:
    made = tracing.Trace.of({})
    made.begin("Plan")
    assert not made._span.is_recording()
    made.end(None)
