"""The gRPC transports, blocking and asyncio, and what their errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # it has no stubs
    ErrorInfo,
    RetryInfo,
)
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from hitree.codec import ungrouped
from hitree.errors import (
    BY_GRPC_CODE,
    BY_REASON,
    Cancelled,
    DeadlineExceeded,
    HiTreeError,
    InternalError,
    Unavailable,
)
from hitree.v1 import hitree_pb2 as pb
from hitree.v1.hitree_pb2_grpc import HiTreeStub
from hitree_sdk import _tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from google.protobuf.message import Message

    from hitree_sdk._config import Config

_OPTIONS = (
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses of the name: replicas
    ("grpc.initial_reconnect_backoff_ms", 100),  # as short as the client's own first retries
    ("grpc.max_reconnect_backoff_ms", 5000),
    # While calls run, a line that fell silent is found out within half a minute, and the call
    # goes on over another one. The service allows pings every 10 seconds.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # of a ping that was under way already
    ("grpc.http2.max_pings_without_data", 0),  # a drawing's reader sends nothing but pings
)


class GrpcTransport:
    """Carries calls over one channel."""

    def __init__(self, config: Config) -> None:
        """Prepare the channel; it connects with the first call."""
        if config.scheme == "grpcs":
            self._channel = grpc.secure_channel(config.address, _trust(config), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(config.address, options=_OPTIONS)
        self._stub = HiTreeStub(self._channel)
        self._config = config

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; ``timeout`` seconds are the call's deadline."""
        try:
            reply: Message = getattr(self._stub, method)(
                request, timeout=timeout, metadata=_metadata(self._config)
            )
        except grpc.RpcError as exc:
            raise error_of(exc) from exc
        return reply

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        """Call a streaming ``method``; closing the generator cancels the call."""
        call = getattr(self._stub, method)(
            grouped(request), timeout=timeout, metadata=_metadata(self._config)
        )
        try:
            for message in call:
                yield from ungrouped(message)
        except grpc.RpcError as exc:
            raise error_of(exc) from exc
        finally:
            call.cancel()

    def close(self) -> None:
        """Close the channel; idempotent."""
        self._channel.close()


class AsyncGrpcTransport:
    """Carries calls over one channel, which belongs to the event loop of its first call."""

    def __init__(self, config: Config) -> None:
        """Keep the configuration: a channel can only be made where a loop runs."""
        self._config = config
        self._channel: grpc.aio.Channel | None = None

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; ``timeout`` seconds are the call's deadline."""
        try:
            reply: Message = await self._method(method)(
                request, timeout=timeout, metadata=_metadata(self._config)
            )
        except grpc.RpcError as exc:
            raise error_of(exc) from exc
        return reply

    async def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        """Call a streaming ``method``; closing the generator cancels the call."""
        call = self._method(method)(
            grouped(request), timeout=timeout, metadata=_metadata(self._config)
        )
        try:
            async for message in call:
                for event in ungrouped(message):
                    yield event
        except grpc.RpcError as exc:
            raise error_of(exc) from exc
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channel; idempotent."""
        if self._channel is not None:
            await self._channel.close()

    def _method(self, name: str) -> Any:
        """A method of the stub; Any: its messages go with its name."""
        if self._channel is None:
            self._channel = _async_channel(self._config)
        return getattr(HiTreeStub(self._channel), name)


def grouped(request: Message) -> Message:
    """The request, asking for events in groups where that can be asked for."""
    if not isinstance(request, pb.DrawRequest):
        return request
    asked = pb.DrawRequest()
    asked.CopyFrom(request)
    asked.grouped = True
    return asked


def _async_channel(config: Config) -> grpc.aio.Channel:
    if config.scheme == "grpcs":
        return grpc.aio.secure_channel(config.address, _trust(config), options=_OPTIONS)
    return grpc.aio.insecure_channel(config.address, options=_OPTIONS)


def _trust(config: Config) -> grpc.ChannelCredentials:
    own = config.cert.read_bytes() if config.cert else None  # certificate and key: both are found
    return grpc.ssl_channel_credentials(config.ca.encode() if config.ca else None, own, own)


def _metadata(config: Config) -> tuple[tuple[str, str], ...]:
    key = {"authorization": f"Bearer {config.api_key}"} if config.api_key else {}
    return tuple((key | _tracing.headers()).items())


def error_of(exc: grpc.RpcError) -> HiTreeError:
    """What a failed call means: the service's reason, else the class of the gRPC code."""
    info, hint = ErrorInfo(), RetryInfo()
    for detail in _details(exc):
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(RetryInfo.DESCRIPTOR):
            detail.Unpack(hint)
    code: grpc.StatusCode = exc.code()
    cls = BY_REASON.get(info.reason) or BY_GRPC_CODE.get(code.name, InternalError)
    message: str = exc.details() or f"the call failed with {code.name}"
    if cls is Cancelled and not info.reason and _is_reset(exc):
        cls, message = (
            Unavailable,
            f"the call was reset ({message}); the service has too much to do",
        )
    elif cls is Unavailable and not info.reason:  # nobody of ours said it
        message = f"the service cannot be reached ({message}); check HITREE_URL and that it runs"
    elif cls is DeadlineExceeded and not info.reason:
        message = f"the call took longer than its timeout ({message}); give more time"
    return cls(
        message,
        details=dict(info.metadata),
        retry_after=hint.retry_delay.ToTimedelta().total_seconds() or None,
    )


def _is_reset(exc: grpc.RpcError) -> bool:
    """Whether the other side broke off a call, as gRPC's server does when too many wait for it."""
    details = exc.details() or ""
    return details in ("", "CANCELLED") or "RST_STREAM" in details


def _details(exc: grpc.RpcError) -> list[Any]:
    """The packed details of a rich status; none where a proxy wrote another status over it."""
    try:
        status = rpc_status.from_call(exc)
    except ValueError:
        return []
    return list(status.details) if status else []
