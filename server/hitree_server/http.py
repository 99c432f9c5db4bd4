"""The HTTP door: a BentoML service that carries JSON endpoints, the page, health and metrics.

BentoML's own endpoints cannot give our error body or refuse unknown fields, and swallow errors in
the middle of a stream; so the endpoints are a Starlette application inside the BentoML service,
which brings health and its tooling.
"""

from __future__ import annotations

import json
import warnings
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hitree.codec import error_to_wire, from_json, to_json, ungrouped
from hitree.errors import HiTreeError, InternalError, InvalidInput
from hitree.v1 import hitree_pb2 as pb
from hitree_server import inference, openapi, openapi_inference
from hitree_server.counts import check_json
from hitree_server.incoming import (
    AUTHORIZATION,
    RETRY_AFTER,
    admitted,
    body_of,
    call_of,
    error_headers,
    query_of,
    told_of,
    unless_left,
)
from hitree_server.metrics import CONTENT_TYPE
from hitree_server.openapi import LAST_EVENT_ID, REQUEST_ID, TIMEOUT, Operation
from hitree_server.sse import EventStream, Place, framed
from hitree_server.tracing import TRACE

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of BentoML's own imports
    from bentoml import asgi_app, on_shutdown, on_startup
    from bentoml import service as bento_service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from google.protobuf.message import Message
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hitree_server.app import App
    from hitree_server.calls import Call
    from hitree_server.service import Service

    Handler = Callable[[Request], Awaitable[Response]]

_M = TypeVar("_M", bound="Message")

PREFIX = "/v1"
WEB = Path(__file__).parent / "web"

OPERATIONS = (
    Operation(
        "post", "/v1/plan", "Plan", "Write the plan for a prompt", pb.PlanRequest, pb.PlanResponse
    ),
    Operation(
        "post", "/v1/draw", "Draw", "Draw a prompt or a plan", pb.DrawRequest, pb.DrawEvent, True
    ),
    Operation(
        "post", "/v1/annotate", "Annotate", "Infer the instruction tree behind a drawing",
        pb.AnnotateRequest, pb.AnnotateResponse,
    ),
    Operation(
        "post", "/v1/describe", "Describe", "Describe one segment of a drawing, best text first",
        pb.DescribeRequest, pb.DescribeResponse,
    ),
    Operation(
        "post", "/v1/score", "Score", "Score how well instructions fit segments",
        pb.ScoreRequest, pb.ScoreResponse,
    ),
    Operation(
        "get", "/v1/model", "ModelInfo", "Tell what is served",
        pb.ModelInfoRequest, pb.ModelInfoResponse,
    ),
    Operation(
        "get", "/v1/subjects", "Subjects", "List the subjects that can be drawn",
        pb.SubjectsRequest, pb.SubjectsResponse,
    ),
)  # fmt: skip

# Headers that pages elsewhere may send.
HEEDED = (
    AUTHORIZATION,
    "content-type",
    TRACE,
    REQUEST_ID,
    TIMEOUT,
    LAST_EVENT_ID,
    inference.JSON_LENGTH,
)


def door(app: App) -> Any:
    """The BentoML service around ``app``: it starts and stops with the service's own life.

    Any: BentoML has no types for what ``bentoml.service`` makes.
    """

    class HiTree:
        """Plans sketches as instruction trees and draws them, as a stream."""

        @on_startup  # type: ignore[untyped-decorator]
        async def start(self) -> None:
            await app.start()

        @on_shutdown  # type: ignore[untyped-decorator]
        async def stop(self) -> None:
            await app.stop()

        async def __is_ready__(self) -> bool:
            return app.ready

    origins = [origin.strip() for origin in app.settings.cors_origins.split(",") if origin.strip()]
    mounted = asgi_app(endpoints(app.service, origins), path="/")(HiTree)
    return bento_service(
        mounted,
        name="hitree",
        workers=1,  # one engine a process; BentoML would start a process a worker
        traffic={"timeout": 3600},  # deadlines are the caller's
        metrics={"enabled": False},  # ours are at /metrics
        logging={"access": {"enabled": False}},  # calls are logged by `observed`
    )


def untraced(door: ASGIApp) -> ASGIApp:
    """The door without BentoML's spans, one for every chunk, which go nowhere; ours are enough."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress_http_instrumentation():
            await door(scope, receive, send)

    return serve


def endpoints(service: Service, origins: Sequence[str] = ()) -> Starlette:
    """The door's routes over a service; pages of ``origins`` may call as well as our own."""
    document = openapi.document(OPERATIONS, openapi_inference.PATHS, openapi_inference.SCHEMAS)

    async def describe(_: Request) -> Response:
        return JSONResponse(document)

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    routes = [
        Route(
            operation.path.removeprefix(PREFIX),
            _streaming(operation, service) if operation.streams else _unary(operation, service),
            methods=[operation.verb.upper()],
        )
        for operation in OPERATIONS
    ]
    return Starlette(
        routes=[
            Mount(PREFIX, routes=routes),
            *inference.routes(service),
            Route("/openapi.json", describe),
            Route("/docs.json", describe),  # where BentoML's tools look
            Route("/metrics", metrics),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST"],
                allow_headers=HEEDED,
                expose_headers=[REQUEST_ID, RETRY_AFTER, inference.JSON_LENGTH],
            )
        ]
        if origins
        else [],
        exception_handlers={
            HiTreeError: _refuse,
            HTTPException: _refuse_route,
            Exception: _refuse,
        },
    )


# ---- calls -----------------------------------------------------------------------------------


def _unary(operation: Operation, service: Service) -> Handler:
    answer = service.unary[operation.name]

    async def handle(request: Request) -> Response:
        call = call_of(request)
        with admitted(operation.name, request, call, service):
            message = await _message(request, operation.request, call, service)
            reply = await unless_left(request, answer(message, call))
        return JSONResponse(to_json(reply), headers={REQUEST_ID: call.request_id})

    return handle


def _streaming(operation: Operation, service: Service) -> Handler:
    async def handle(request: Request) -> Response:
        call = call_of(request)
        chunks = _chunks(operation, request, call, service)
        first = await anext(chunks)  # raises what was refused, while there can be a status
        return EventStream(first, chunks, {REQUEST_ID: call.request_id})

    return handle


async def _chunks(
    operation: Operation, request: Request, call: Call, service: Service
) -> AsyncGenerator[bytes]:
    with admitted(operation.name, request, call, service):
        message = await _message(request, operation.request, call, service)
        place = Place.of(message, request.headers.get(LAST_EVENT_ID))
        async with aclosing(service.streams[operation.name](message, call)) as groups:
            async for group in groups:
                yield b"".join(framed(event, place.after(event)) for event in ungrouped(group))


async def _message(request: Request, message_class: type[_M], call: Call, service: Service) -> _M:
    """The request's body as a message; a GET, or a HEAD, has its query instead.

    Raises:
        InvalidInput: the body is too long or no JSON; and what `hitree.codec.from_json` and
            `hitree_server.counts.check_json` raise.
    """
    if request.method in ("GET", "HEAD"):
        return from_json(query_of(request), message_class)
    body = await body_of(request, call, service)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"the body is no JSON ({exc}); send an object") from exc
    check_json(value, message_class)
    return from_json(value, message_class)


# ---- errors ----------------------------------------------------------------------------------


def error_response(error: HiTreeError, status: int | None = None) -> Response:
    """The error body that every refusal has, with a ``Retry-After`` where there is a hint."""
    body = {"error": to_json(error_to_wire(error))}
    return JSONResponse(body, status or error.http_status, error_headers(error))


async def _refuse(request: Request, exc: Exception) -> Response:
    """Whatever went wrong; what is no `HiTreeError` is logged by the framework."""
    known = exc if isinstance(exc, HiTreeError) else InternalError("the service failed")
    response = error_response(known)
    response.headers.update(told_of(request))
    return response


async def _refuse_route(request: Request, exc: Exception) -> Response:
    """No such path or method: our body, the framework's status and headers."""
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    message = f"there is no {request.method} {request.url.path}; see /openapi.json"
    response = error_response(InvalidInput(message), status)
    response.headers.update(getattr(exc, "headers", None) or {})
    return response
