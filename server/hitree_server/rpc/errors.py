"""HiTree's errors as gRPC statuses with rich details (``google.rpc``)."""

from __future__ import annotations

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
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.details)]
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(RetryInfo(retry_delay=delay))
    code: int = grpc.StatusCode[error.grpc_code].value[0]
    return Status(code=code, message=error.message, details=[_packed(item) for item in details])


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
