"""``hitree.v1.HiTree`` over gRPC: each method hands its message to the `Service`."""

# ruff: noqa: N802  # the names of the RPCs

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from hitree.codec import ungrouped
from hitree.errors import HiTreeError
from hitree.v1 import hitree_pb2 as pb
from hitree.v1 import hitree_pb2_grpc as pb_grpc
from hitree_server.calls import Call, observed
from hitree_server.rpc.errors import REQUEST_ID, abort
from hitree_server.tracing import TRACE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager

    from hitree_server.service import Service

    Context = grpc.aio.ServicerContext[Any, Any]  # Any: messages of either service
    Sent = dict[str, str | bytes]  # metadata by name

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")

AUTHORIZATION = "authorization"


class HiTreeServicer(pb_grpc.HiTreeServicer):
    """The gRPC face of a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Plan(self, request: pb.PlanRequest, context: Context) -> pb.PlanResponse:
        return await self._unary("Plan", self._service.plan, request, context)

    async def Annotate(self, request: pb.AnnotateRequest, context: Context) -> pb.AnnotateResponse:
        return await self._unary("Annotate", self._service.annotate, request, context)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        return await self._unary("Describe", self._service.describe, request, context)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        return await self._unary("Score", self._service.score, request, context)

    async def ModelInfo(
        self, request: pb.ModelInfoRequest, context: Context
    ) -> pb.ModelInfoResponse:
        return await self._unary("ModelInfo", self._service.model_info, request, context)

    async def Subjects(self, request: pb.SubjectsRequest, context: Context) -> pb.SubjectsResponse:
        return await self._unary("Subjects", self._service.subjects, request, context)

    # The stubs know streams as generators only; writing to the context lets a client that leaves
    # cancel the drawing wherever it stands.
    async def Draw(  # type: ignore[override]
        self, request: pb.DrawRequest, context: Context
    ) -> None:
        await self._stream("Draw", self._service.draw, request, context)

    async def Redraw(  # type: ignore[override]
        self, request: pb.RedrawRequest, context: Context
    ) -> None:
        await self._stream("Redraw", self._service.redraw, request, context)

    async def Session(  # type: ignore[override]
        self, requests: AsyncIterator[pb.SessionRequest], context: Context
    ) -> None:
        await self._stream("Session", self._service.session, requests, context)

    async def _unary(
        self,
        method: str,
        answer: Callable[[_Request, Call], Awaitable[_Reply]],
        request: _Request,
        context: Context,
    ) -> _Reply:
        sent = sent_along(context)
        call = call_of(context, sent)
        try:
            with observed(method, call, self._service.metrics), admitted(sent, self._service):
                check_read(request)
                reply = await answer(request, call)
                await tell_id(context, call)
                return reply
        except HiTreeError as exc:
            await abort(context, exc, call.request_id)

    async def _stream(
        self,
        method: str,
        answer: Callable[[_Request, Call], AsyncGenerator[_Reply]],
        request: _Request,
        context: Context,
    ) -> None:
        """Write what ``answer`` yields; a client that leaves cancels this, and so the drawing."""
        sent = sent_along(context)
        call = call_of(context, sent)
        try:
            with observed(method, call, self._service.metrics), admitted(sent, self._service):
                check_read(request)
                async with aclosing(answer(request, call)) as messages:
                    whole = isinstance(request, pb.DrawRequest) and request.grouped
                    await _sent(_written(messages, context, call, whole))
        except HiTreeError as exc:
            await abort(context, exc, call.request_id)


def admitted(sent: Sent, service: Service) -> AbstractContextManager[str]:
    """See `hitree_server.access.Access.admitted`."""
    return service.access.admitted(str(sent.get(AUTHORIZATION, "")))


def check_read(request: object) -> None:
    """Raise what `hitree_server.rpc.reading` hands in place of an unreadable request."""
    if isinstance(request, HiTreeError):
        raise request


def call_of(context: Context, sent: Sent) -> Call:
    """The call behind a context."""
    return Call.of(
        "grpc",
        request_id=str(sent.get(REQUEST_ID, "")),
        timeout=context.time_remaining(),
        headers={TRACE: str(sent[TRACE])} if TRACE in sent else None,
    )


def sent_along(context: Context) -> Sent:
    """What the caller sent beside its request; gRPC makes it anew whenever it is asked."""
    return dict(context.invocation_metadata() or ())


async def tell_id(context: Context, call: Call) -> None:
    """Tell the caller the call's id, before the reply: a refusal tells it by itself, in one go."""
    await _sent(context.send_initial_metadata(((REQUEST_ID, call.request_id),)))


async def _written(
    messages: AsyncGenerator[_Reply], context: Context, call: Call, whole: bool
) -> None:
    """Write messages, those that are groups only to callers that can unwrap them (``whole``)."""
    told = False
    async for message in messages:
        if not told:
            await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
            told = True
        if whole or not isinstance(message, pb.DrawEvent):
            await context.write(message)
        else:
            for event in ungrouped(message):
                await context.write(event)


async def _sent(sending: Awaitable[None]) -> None:
    """Send; a client that has just left cancels the call here, a moment early."""
    try:
        await sending
    except grpc.aio.InternalError as exc:
        raise asyncio.CancelledError from exc
