"""HiTree's errors as gRPC statuses with rich details (``google.rpc``)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # has no stubs
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has no stubs

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from hitree.errors import HiTreeError

DOMAIN = "hitree"
REQUEST_ID = "x-request-id"
DETAILS_KEY = "grpc-status-details-bin"


async def abort(
    context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    error: HiTreeError,
    request_id: str = "",
) -> NoReturn:
    """End the call with the error's status, `ErrorInfo` and, where there is a hint, `RetryInfo`.

    The id of the call goes along, where it has one.
    """
    told = ((REQUEST_ID, request_id),) if request_id else ()
    details = (DETAILS_KEY, to_status(error).SerializeToString())
    await context.abort(grpc.StatusCode[error.grpc_code], error.message, (*told, details))


def to_status(error: HiTreeError) -> Status:
    """The rich status: reason and details in an `ErrorInfo` of the domain "hitree"."""
    code: int = grpc.StatusCode[error.grpc_code].value[0]
    details = [_info(error.reason, tuple(error.details.items()))]
    if error.retry_after is not None:
        details.append(_hint(round(error.retry_after * 1000)))
    return Status(code=code, message=error.message, details=details)


# Many calls are refused with the same details: each of them is packed once.


@lru_cache(maxsize=256)
def _info(reason: str, details: tuple[tuple[str, str], ...]) -> Any:
    return _packed(ErrorInfo(reason=reason, domain=DOMAIN, metadata=dict(details)))


@lru_cache(maxsize=4096)
def _hint(milliseconds: int) -> Any:
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    return _packed(RetryInfo(retry_delay=delay))


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
