"""What every HTTP endpoint does with a request: its call, its caller, its body, its refusal."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar  # Any: JSON

from starlette.requests import ClientDisconnect

from hitree.errors import Cancelled, InvalidInput, Unauthenticated
from hitree.limits import LIMITS
from hitree_server.calls import Call
from hitree_server.openapi import REQUEST_ID, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractContextManager

    from starlette.requests import Request

    from hitree.errors import HiTreeError
    from hitree_server.service import Service

_T = TypeVar("_T")

AUTHORIZATION, RETRY_AFTER = "authorization", "retry-after"

_MILLISECONDS = re.compile(r"[0-9]{1,18}")


def call_of(request: Request) -> Call:
    """The call behind a request.

    Raises:
        InvalidInput: a header cannot be read.
    """
    headers = request.headers
    sent = headers.get(TIMEOUT)
    if sent is not None and not _MILLISECONDS.fullmatch(sent):
        raise InvalidInput(f"the header {TIMEOUT} is {sent!r}; send whole milliseconds")
    timeout = None if sent is None else int(sent) / 1000
    call = Call.of("http", request_id=headers.get(REQUEST_ID, ""), timeout=timeout, headers=headers)
    request.state.request_id = call.request_id  # for `_refuse`
    return call


def admitted(request: Request, service: Service) -> AbstractContextManager[str]:
    """See `hitree_server.access.Access.admitted`."""
    return service.access.admitted(request.headers.get(AUTHORIZATION, ""))


async def body_of(request: Request) -> bytes:
    """The request's body.

    Raises:
        InvalidInput: it is too long.
        Cancelled: the client left before all of it was here.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LIMITS.message_bytes:
                raise InvalidInput(
                    f"the body is longer than {LIMITS.message_bytes} bytes; send less"
                )
    except ClientDisconnect as exc:
        raise Cancelled("the client left before its request was whole") from exc
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
