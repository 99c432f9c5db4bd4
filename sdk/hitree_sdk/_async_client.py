"""The asyncio client."""

from __future__ import annotations

from asyncio import sleep
from typing import TYPE_CHECKING, Any, Self

from hitree.errors import HiTreeError
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import _call, _config, _info
from hitree_sdk._closing import AsyncClosable
from hitree_sdk._stream import AsyncDrawStream
from hitree_sdk._transport import connect_async

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from hitree.transport import AsyncTransport
    from hitree.tree import Plan
    from hitree_sdk._call import DrawingLike, Parser, Spanned


class AsyncClient:
    """The asyncio twin of `Client`: plans, draws and annotates in any of its three ways.

    Every call may raise any `hitree.errors.HiTreeError`. Wrong input is refused before anything
    is sent. ``timeout`` (seconds) covers a whole call, its retries included, and is sent along
    as its deadline; `DeadlineExceeded` is raised when it passes. A client belongs to the
    event loop of its first call.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        retries: int = 2,
        bundle: str | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        """Connect to ``url``, by default to HITREE_URL, else to the embedded engine.

        Args:
            url: ``grpc://host:50051``, ``grpcs://…``, ``http://…``, ``https://…`` or "embedded".
            api_key: sent as a bearer token; default HITREE_API_KEY.
            timeout: seconds for calls that name none; default HITREE_TIMEOUT, else 60.
            ca_file: PEM certificates to trust instead of the system's.
            cert_file: PEM file of the client's own certificate and its private key, for a service
                that asks for one.
            retries: how often a call that failed in passing is tried again, 0 to 10.
            bundle: which of the bundles that are served answers, "name", "name@version" or
                "@version"; default the service's first one.
            transport: carries the calls instead of a connection of the client's own.

        Raises:
            InvalidInput: an argument or a variable of the environment is wrong.
            MissingPackage: the embedded engine is not installed.
        """
        self._config = _config.resolve(
            url,
            api_key=api_key,
            timeout=timeout,
            ca_file=ca_file,
            cert_file=cert_file,
            retries=retries,
            bundle=bundle,
        )
        self._transport = AsyncClosable(transport or connect_async(self._config))

    async def plan(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        nearest_subject: bool = False,
        max_nodes: int | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """Write the plan for a prompt; the same seed gives the same plan.

        Args:
            prompt: what to draw, in English.
            seed: 0 to 2**64 - 1.
            temperature: above 0, up to 2; low is likely, high is varied.
            nearest_subject: take the nearest subject where none is recognised.
            max_nodes: most nodes of the plan, 1 to 64.

        Raises:
            UnknownSubject: none was recognised; ``details["nearest"]`` lists some.
        """
        request = _call.plan_request(
            prompt,
            seed=seed,
            temperature=temperature,
            nearest_subject=nearest_subject,
            max_nodes=max_nodes,
        )
        return _call.plan_of(await self._unary("Plan", request, timeout))

    def draw(
        self,
        what: str | Plan,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        canvas: DrawingLike | None = None,
        max_points: int | None = None,
        candidates: int | None = None,
        nearest_subject: bool = False,
        timeout: float | None = None,
    ) -> AsyncDrawStream:
        """Draw a prompt or a plan as a stream; the call begins with the first event asked for.

        Args:
            what: a prompt in English, or a plan.
            seed: 0 to 2**64 - 1; the same draws the same; default one that the sketch names.
            temperature: above 0, up to 2; low is tidy, high is wild.
            canvas: strokes that are there already, which the drawing continues.
            max_points: most points to draw, 1 to 2000, the canvas not counted.
            candidates: drawings to make, 1 to 16; the best is replayed once all are made.
            nearest_subject: take the nearest subject where the prompt names none.
            timeout: seconds for the whole drawing.
        """
        request = _call.draw_request(
            what,
            seed=seed,
            temperature=temperature,
            canvas=canvas,
            max_points=max_points,
            candidates=candidates,
            nearest_subject=nearest_subject,
        )
        _call.choose(request, self._config)
        return AsyncDrawStream(self._transport, request, _call.attempts(self._config, timeout))

    async def annotate(
        self,
        drawing: DrawingLike,
        *,
        subject: str | None = None,
        parser: Parser | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """Infer the instruction tree behind a drawing; its nodes have spans.

        Args:
            drawing: a sketch, a drawing, or a list of strokes, each (N, 2) in units.
            subject: what it shows; default what the sketch knows, "" to have it recognised.
            parser: "greedy", "cky" or "bottom_up"; default the service's.
        """
        request = _call.annotate_request(drawing, subject=subject, parser=parser)
        return _call.tree_of(await self._unary("Annotate", request, timeout))

    async def describe(
        self,
        drawing: DrawingLike,
        start: int,
        end: int,
        *,
        subject: str | None = None,
        n_best: int = 1,
        timeout: float | None = None,
    ) -> list[_info.Description]:
        """Write instructions for the strokes ``[start, end)``, the ``n_best`` likeliest first."""
        request = _call.describe_request(drawing, start, end, subject=subject, n_best=n_best)
        return _call.descriptions_of(await self._unary("Describe", request, timeout))

    async def score(
        self, drawing: DrawingLike, items: Iterable[Spanned], *, timeout: float | None = None
    ) -> list[float]:
        """Score how well texts fit segments, one score an item; higher fits better.

        ``items`` are `ScoreItem` or the nodes of a tree: ``client.score(sketch, tree.nodes)``.
        """
        reply = await self._unary("Score", _call.score_request(drawing, items), timeout)
        return list(reply.scores)

    async def model_info(self, *, timeout: float | None = None) -> _info.ModelInfo:
        """Tell what is served: bundle, models, providers, engine, limits."""
        return _info.model_info_of(await self._unary("ModelInfo", pb.ModelInfoRequest(), timeout))

    async def subjects(self, *, timeout: float | None = None) -> list[str]:
        """List the subjects that the service can draw."""
        return list((await self._unary("Subjects", pb.SubjectsRequest(), timeout)).subjects)

    async def close(self) -> None:
        """Give back the connection; idempotent. Calls raise `ClientClosed` from then on."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        await self.close()

    async def _unary(self, method: str, request: Message, timeout: float | None) -> Any:
        """Call with retries; Any: the reply's class goes with the method's name."""
        _call.choose(request, self._config)
        _call.check_size(request)
        attempts = _call.attempts(self._config, timeout)()
        while True:
            try:
                return await self._transport.unary(method, request, timeout=attempts.left())
            except HiTreeError as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    raise
            await sleep(delay)
