"""The caller's trace, where it keeps one: calls carry on the span that is current."""

from __future__ import annotations

try:
    from opentelemetry import propagate
except ImportError:  # traces need opentelemetry-api, and nothing else does
    propagate = None  # type: ignore[assignment]  # an optional package


def headers() -> dict[str, str]:
    """What names the current span to the service (W3C ``traceparent``); empty without one."""
    carried: dict[str, str] = {}
    if propagate is not None:
        propagate.inject(carried)
    return carried
