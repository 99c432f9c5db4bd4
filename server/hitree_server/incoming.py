"""What every HTTP endpoint does with a request: its call, its caller, its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hitree.errors import InvalidInput
from hitree.limits import LIMITS
from hitree_server.calls import Call
from hitree_server.openapi import REQUEST_ID, TIMEOUT

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from starlette.requests import Request

    from hitree_server.service import Service

AUTHORIZATION = "authorization"


def call_of(request: Request) -> Call:
    """The call behind a request.

    Raises:
        InvalidInput: a header cannot be read.
    """
    sent = request.headers.get(TIMEOUT)
    try:
        timeout = None if sent is None else int(sent) / 1000
    except ValueError:
        raise InvalidInput(f"the header {TIMEOUT} is {sent!r}; send milliseconds") from None
    headers = request.headers
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
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMITS.message_bytes:
            raise InvalidInput(f"the body is longer than {LIMITS.message_bytes} bytes; send less")
    return bytes(body)
