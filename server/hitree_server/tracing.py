"""A span for every call, in the trace of whoever called, with those of its model calls below it.

Only OpenTelemetry's API is used: without a provider, which is the default, spans cost next to
nothing and go nowhere. Who wants them starts the server under ``opentelemetry-instrument``, or sets
a provider. Spans are handed on by hand, for the events of a stream are made in many tasks.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Span

    from hitree.errors import HiTreeError
    from hitree.events import Finished

TRACE = "traceparent"  # the header that names a caller's span (W3C)

_TRACER = trace.get_tracer("hitree_server")
_NOBODY = Context()  # names no span


class Trace:
    """The spans of one call."""

    def __init__(self, parent: Context = _NOBODY) -> None:
        self._parent = parent
        self._span: Span = trace.INVALID_SPAN

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Trace:
        """Below the span that a caller's headers name (`TRACE`), if they do."""
        return cls(propagate.extract(headers))

    def begin(self, method: str, **facts: str) -> None:
        """Begin the span of the call itself."""
        self._span = _TRACER.start_span(
            f"hitree.v1.HiTree/{method}",
            context=self._parent,
            kind=SpanKind.SERVER,
            attributes={f"hitree.{name}": value for name, value in facts.items()},
        )

    def end(self, error: HiTreeError | None) -> None:
        """End it; an error of ours is its status."""
        if error is not None and self._span.is_recording():
            self._span.set_attribute("hitree.reason", error.reason)
            self._span.set_status(Status(StatusCode.ERROR, error.message))
        self._span.end()

    @contextmanager
    def work(self, name: str) -> Iterator[None]:
        """The span of a model call; what it waited for a thread lies before it."""
        made = _TRACER.start_span(f"model {name}", context=trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            made.end()

    def drawn(self, event: Finished) -> None:
        """Note what the engine tells of a drawing that is done."""
        if not self._span.is_recording():
            return
        told = {**vars(event.timings), "strokes": event.strokes, "points": event.points}
        attributes = {f"hitree.{name}": value for name, value in told.items()}
        self._span.add_event("drawn", {"hitree.reason": event.reason, **attributes})
