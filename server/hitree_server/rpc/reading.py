"""Bytes that are no message: refused with our error, where gRPC would fail with UNKNOWN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any  # Any: handlers of all methods' messages

import grpc
from google.protobuf.message import DecodeError

from hitree.errors import InvalidInput, NotText

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Handler = grpc.RpcMethodHandler[Any, Any]


class Reading:
    """A server, for the generated ``add_…_to_server`` to register a service's methods with.

    They get an unreadable request as the `InvalidInput` that they shall raise. An interceptor could
    do the same, with a task more for each call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Leave them to `add_registered_method_handlers`, which is told of the same methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register the methods of a service."""
        package = service.rpartition(".")[0]
        reading = {name: _tolerant(handler, package) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, reading)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, reading)


def _tolerant(handler: Any, package: str) -> Any:
    read: Callable[[bytes], Any] = handler.request_deserializer

    def deserialise(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError as exc:
            cls = NotText if "UTF-8" in str(exc) else InvalidInput
            return cls(f"the request cannot be read: {exc}; send a message of {package}")

    return handler._replace(request_deserializer=deserialise)
