"""Bytes that are no message: refused with our error, where gRPC would fail with UNKNOWN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any  # Any: handlers of all methods' messages

import grpc
from google.protobuf.message import DecodeError

from hitree.errors import InvalidInput, NotText

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = grpc.RpcMethodHandler[Any, Any]


class Reading(grpc.aio.ServerInterceptor):
    """Hands an unreadable request to the method as the `InvalidInput` that it shall raise."""

    def __init__(self, *services: str) -> None:
        self._prefixes = tuple(f"/{service}/" for service in services)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the deserialiser of the services' methods."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self._prefixes):
            return handler
        package = handler_call_details.method[1:].rpartition("/")[0].rpartition(".")[0]
        read = _tolerant(handler.request_deserializer, package)
        return handler._replace(request_deserializer=read)


def _tolerant(read: Callable[[bytes], Any], package: str) -> Callable[[bytes], Any]:
    def deserialise(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError as exc:
            cls = NotText if "UTF-8" in str(exc) else InvalidInput
            return cls(f"the request cannot be read: {exc}; send a message of {package}")

    return deserialise
