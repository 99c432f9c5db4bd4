"""What every HTTP endpoint does with a request: its call, its caller, its body, its refusal."""

from __future__ import annotations

import asyncio
import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar  # Any: JSON

from starlette.requests import ClientDisconnect

from hitree.errors import Cancelled, DeadlineExceeded, InvalidInput, Unauthenticated
from hitree.limits import LIMITS
from hitree_server.calls import Call, observed
from hitree_server.openapi import REQUEST_ID, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from starlette.requests import Request

    from hitree.errors import HiTreeError
    from hitree_server.service import Service

_T = TypeVar("_T")

AUTHORIZATION, RETRY_AFTER = "authorization", "retry-after"

BODY_SECONDS = 60.0  # that a request may take to arrive, whatever its timeout

_MILLISECONDS = re.compile(r"[0-9]{1,18}")


def call_of(request: Request) -> Call:
    """The call behind a request; `admitted` refuses one whose timeout cannot be read."""
    headers = request.headers
    sent = headers.get(TIMEOUT, "")
    timeout = int(sent) / 1000 if _MILLISECONDS.fullmatch(sent) else None
    call = Call.of("http", request_id=headers.get(REQUEST_ID, ""), timeout=timeout, headers=headers)
    request.state.request_id = call.request_id  # for `told_of`
    return call


@contextmanager
def admitted(method: str, request: Request, call: Call, service: Service) -> Iterator[None]:
    """What stands around every call of a method: it is observed, and its caller may make it.

    Raises:
        Unauthenticated, Overloaded: see `hitree_server.access.Access.admitted`.
        InvalidInput: the timeout cannot be read.
    """
    key = request.headers.get(AUTHORIZATION, "")
    with observed(method, call, service.metrics), service.access.admitted(key):
        sent = request.headers.get(TIMEOUT)
        if sent is not None and call.deadline is None:
            raise InvalidInput(f"the header {TIMEOUT} is {sent!r}; send whole milliseconds")
        yield


async def body_of(request: Request, call: Call, service: Service) -> bytes:
    """The request's body, for which the call has its timeout, and no more than ``BODY_SECONDS``.

    Raises:
        InvalidInput: it is too long.
        DeadlineExceeded: it took too long.
        Unavailable: the service is stopping, and would not answer.
        Cancelled: the client left before all of it was here.
    """
    left = call.remaining()
    seconds = BODY_SECONDS if left is None else min(left, BODY_SECONDS)
    try:
        async with service.arriving(seconds):
            return await _read(request)
    except ClientDisconnect as exc:
        raise Cancelled("the client left before its request was whole") from exc
    except TimeoutError as exc:
        raise DeadlineExceeded(
            f"the request was not whole within {seconds:.1f} s; send it faster or allow more time"
        ) from exc


async def _read(request: Request) -> bytes:
    body = bytearray()
    request.state.unread = True
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMITS.message_bytes:
            raise InvalidInput(f"the body is longer than {LIMITS.message_bytes} bytes; send less")
    request.state.unread = False
    return bytes(body)


def query_of(request: Request) -> dict[str, Any]:
    """The request's query as JSON: ``bundle.name=cats`` is ``{"bundle": {"name": "cats"}}``."""
    asked: dict[str, Any] = {}
    for name, value in request.query_params.items():
        message, _, field = name.partition(".")
        asked.setdefault(message, {})[field] = value
    return asked


async def unless_left(request: Request, answering: Awaitable[_T]) -> _T:
    """The answer to a request whose body was read; cancels ``answering`` where the client leaves.

    Raises:
        Cancelled: it left; whatever ``answering`` raises.
    """
    answer, left = asyncio.ensure_future(answering), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Cancelled("the client left before it was answered")
        return answer.result()
    finally:
        answer.cancel()
        left.cancel()
        await asyncio.wait({answer, left})


async def _gone(request: Request) -> None:
    """Return once the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def error_headers(error: HiTreeError) -> dict[str, str]:
    """What a refusal says beside its body: when to try again, in whole seconds, and who may."""
    after = error.retry_after
    headers = {} if after is None else {RETRY_AFTER: str(max(1, math.ceil(after)))}
    return headers | ({"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {})


def told_of(request: Request) -> dict[str, str]:
    """What a refusal says of the request itself: the call's id, where it was a call.

    A connection on which the rest of a body may come is of no more use.
    """
    call_id = getattr(request.state, "request_id", "")
    headers = {REQUEST_ID: call_id} if call_id else {}
    return headers | ({"connection": "close"} if getattr(request.state, "unread", False) else {})
