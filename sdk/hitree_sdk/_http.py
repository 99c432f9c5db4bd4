"""The HTTP transports, blocking and asyncio, and what their errors mean."""

from __future__ import annotations

import json
import math
import ssl
from contextlib import aclosing, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import httpx_sse

from hitree import codec
from hitree.errors import (
    BY_REASON,
    Cancelled,
    DeadlineExceeded,
    HiTreeError,
    InternalError,
    InvalidInput,
    Overloaded,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import _tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from google.protobuf.message import Message

    from hitree_sdk._config import Config

_M = TypeVar("_M", bound="Message")

TIMEOUT_HEADER = "x-hitree-timeout-ms"

_ROUTES: dict[str, tuple[str, str, type[Message]]] = {
    "Plan": ("POST", "/v1/plan", pb.PlanResponse),
    "Annotate": ("POST", "/v1/annotate", pb.AnnotateResponse),
    "Describe": ("POST", "/v1/describe", pb.DescribeResponse),
    "Score": ("POST", "/v1/score", pb.ScoreResponse),
    "ModelInfo": ("GET", "/v1/model", pb.ModelInfoResponse),
    "Subjects": ("GET", "/v1/subjects", pb.SubjectsResponse),
    "Draw": ("POST", "/v1/draw", pb.DrawEvent),
}

# What a status means where the answer is none of the service's own (a proxy, another server).
BY_STATUS: dict[int, type[HiTreeError]] = {
    401: Unauthenticated,
    403: Unauthenticated,
    404: Unimplemented,
    405: Unimplemented,
    408: DeadlineExceeded,
    429: Overloaded,
    499: Cancelled,
    501: Unimplemented,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}

# What a failure of httpx means; the first class that fits.
BY_EXCEPTION: tuple[tuple[type[Exception], type[HiTreeError]], ...] = (
    (httpx.ConnectTimeout, Unavailable),
    (httpx.TimeoutException, DeadlineExceeded),
    (httpx_sse.SSEError, InternalError),  # a TransportError too
    (httpx.UnsupportedProtocol, InvalidInput),  # a TransportError too
    (httpx.TransportError, Unavailable),
    (httpx.InvalidURL, InvalidInput),
    (httpx.RequestError, InternalError),  # what cannot be decoded, redirects without an end
    (ssl.SSLError, Unavailable),  # an alert after the handshake, which httpx does not wrap
)
_FOREIGN = tuple(exception for exception, _ in BY_EXCEPTION)


class HttpTransport:
    """Carries calls over one pool of connections."""

    def __init__(self, config: Config, *, wire: httpx.BaseTransport | None = None) -> None:
        """Prepare the pool; ``wire`` stands in for the network."""
        self._client = httpx.Client(
            base_url=config.address, headers=_headers(config), verify=_trust(config), transport=wire
        )

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; ``timeout`` seconds are sent along as the deadline."""
        with _mapped():
            response = self._client.request(**_request(method, request, timeout))
        return _reply(method, response)

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        """Call a streaming ``method``; closing the generator hangs up."""
        over = _deadline(timeout)
        asked = _request(method, request, timeout)
        with _mapped(), httpx_sse.connect_sse(self._client, **asked) as source:
            if not source.response.is_success:
                source.response.read()
                raise error_of(source.response)
            for event in source.iter_sse():
                yield _event(event.data, over)

    def close(self) -> None:
        """Close the pool; idempotent."""
        self._client.close()


class AsyncHttpTransport:
    """Carries calls over one pool of connections, for asyncio."""

    def __init__(self, config: Config, *, wire: httpx.AsyncBaseTransport | None = None) -> None:
        """Prepare the pool; ``wire`` stands in for the network."""
        self._client = httpx.AsyncClient(
            base_url=config.address, headers=_headers(config), verify=_trust(config), transport=wire
        )

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; ``timeout`` seconds are sent along as the deadline."""
        with _mapped():
            response = await self._client.request(**_request(method, request, timeout))
        return _reply(method, response)

    async def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        """Call a streaming ``method``; closing the generator hangs up."""
        over = _deadline(timeout)
        asked = _request(method, request, timeout)
        with _mapped():
            async with httpx_sse.aconnect_sse(self._client, **asked) as source:
                if not source.response.is_success:
                    await source.response.aread()
                    raise error_of(source.response)
                async with aclosing(source.aiter_sse()) as events:
                    async for event in events:
                        yield _event(event.data, over)

    async def close(self) -> None:
        """Close the pool; idempotent."""
        await self._client.aclose()


def error_of(response: httpx.Response) -> HiTreeError:
    """What a refusal means: the service's error body, else the class of its status."""
    fallback = InvalidInput if response.status_code < 500 else InternalError
    by_status = BY_STATUS.get(response.status_code, fallback)
    body = _error_body(response)
    if body is not None:
        hint = body.retry_after_ms / 1000 or _retry_after(response)
        cls = BY_REASON.get(body.reason, by_status)
        return cls(body.message, details=dict(body.details), retry_after=hint)
    return by_status(
        f"{response.url} answered {response.status_code} {response.reason_phrase}, and not as a "
        "HiTree service does; check HITREE_URL and what stands in between",
        retry_after=_retry_after(response),
    )


def _error_body(response: httpx.Response) -> pb.Error | None:
    try:
        return codec.from_json(response.json()["error"], pb.Error)
    except (ValueError, LookupError, TypeError, HiTreeError):  # not JSON, or not ours
        return None


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None  # the other form, a date, is not used


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except _FOREIGN as exc:
        raise _mean(exc) from exc


def _mean(exc: Exception) -> HiTreeError:
    cls = next(cls for exception, cls in BY_EXCEPTION if isinstance(exc, exception))
    text = str(exc) or type(exc).__name__
    if cls is Unavailable:
        return cls(f"the service cannot be reached ({text}); check HITREE_URL and that it runs")
    return cls(f"the call over HTTP failed: {text}")


def _request(method: str, request: Message, timeout: float | None) -> dict[str, Any]:
    verb, path, _ = _ROUTES[method]
    asked: dict[str, Any] = {
        "method": verb,
        "url": path,
        "timeout": timeout,
        "headers": _tracing.headers(),
    }
    if timeout is not None:
        asked["headers"][TIMEOUT_HEADER] = str(math.ceil(timeout * 1000))
    if verb == "POST":
        asked["json"] = codec.to_json(request)
    else:
        asked["params"] = _query(request)
    return asked


def _query(request: Message) -> dict[str, str]:
    """What a request without a body asks for: "bundle.name" and the like."""
    return {
        f"{name}.{field}": value
        for name, message in codec.to_json(request).items()
        for field, value in message.items()
        if value
    }


def _reply(method: str, response: httpx.Response) -> Message:
    if not response.is_success:
        raise error_of(response)
    return _read(response.text, _ROUTES[method][2])


def _event(data: str, over: float) -> pb.DrawEvent:
    if monotonic() > over:
        raise DeadlineExceeded("the drawing took longer than its timeout; give more time")
    return _read(data, pb.DrawEvent)


def _read(text: str, message_class: type[_M]) -> _M:
    try:
        return codec.from_json(json.loads(text), message_class, ignore_unknown=True)
    except (ValueError, InvalidInput) as exc:
        raise InternalError(
            f"what the service sent cannot be read: {exc}; install the hitree of its version"
        ) from exc


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else monotonic() + timeout


def _headers(config: Config) -> dict[str, str]:
    return {"authorization": f"Bearer {config.api_key}"} if config.api_key else {}


def _trust(config: Config) -> ssl.SSLContext | bool:
    if config.ca is None and config.cert is None:
        return True
    context = ssl.create_default_context(cadata=config.ca)
    if config.cert is not None:
        context.load_cert_chain(config.cert)
    return context
