"""The service itself: methods named like the RPCs, messages in and messages out, no door in sight.

Raises `HiTreeError` for what is the caller's to know; anything else is a fault of ours, which the
doors turn into `InternalError` (see `hitree_server.calls.observed`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from hitree.codec import event_to_wire, group_to_wire, plan_to_wire
from hitree.errors import HiTreeError, Unavailable, Unimplemented, UnknownModel
from hitree.events import Failed, Finished
from hitree.limits import LIMITS
from hitree.text import check_text
from hitree.v1 import hitree_pb2 as pb
from hitree_server import intake
from hitree_server.access import Access
from hitree_server.annotator import ScoreItem
from hitree_server.calls import internal_error
from hitree_server.counts import check_message
from hitree_server.drawing import Job, draw
from hitree_server.niceness import ENGINE
from hitree_server.raw import Inferred
from hitree_server.version import VERSION
from hitree_server.workers import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from google.protobuf.message import Message

    from hitree.tree import Plan
    from hitree_server.backend import Backend
    from hitree_server.calls import Call
    from hitree_server.engine.sequence import Floats
    from hitree_server.intake import DrawAsk, PlanAsk
    from hitree_server.metrics import Metrics
    from hitree_server.raw import Array, RawModels
    from hitree_server.settings import Settings


# Any: each method takes its own message.
Unary = Callable[[Any, "Call"], Awaitable["Message"]]
Streaming = Callable[[Any, "Call"], AsyncGenerator[pb.DrawEvent]]
Choosing = (
    pb.PlanRequest
    | pb.DrawRequest
    | pb.AnnotateRequest
    | pb.DescribeRequest
    | pb.ScoreRequest
    | pb.ModelInfoRequest
    | pb.SubjectsRequest
)


class Service:
    """Answers calls between `open` and `close`; belongs to one event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.metrics = metrics
        self.access = Access.of(settings)  # asked by the doors; who embeds the service may call
        self._workers = Workers(settings.model_workers, settings.model_queue, metrics)
        # For what takes a drawing a moment before it begins: no plan is in its way.
        self._brief = Workers(1, settings.model_queue, metrics, ENGINE)
        self._backends: tuple[Backend, ...] = ()  # the default one first
        self._closed = False
        self._running: Counter[Backend] = Counter()  # calls, by what they are answered from
        self._ended = asyncio.Event()  # set whenever a call ends
        self._arrivals: set[asyncio.Timeout] = set()  # of requests that are not whole yet

    # ---- life --------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether calls are welcome."""
        return bool(self._backends) and not self._closed

    @property
    def unary(self) -> dict[str, Unary]:
        """The methods with one reply, by the names of their RPCs."""
        return {
            "Plan": self.plan,
            "Annotate": self.annotate,
            "Describe": self.describe,
            "Score": self.score,
            "ModelInfo": self.model_info,
            "Subjects": self.subjects,
        }

    @property
    def streams(self) -> dict[str, Streaming]:
        """The methods that stream draw events, by the names of their RPCs."""
        return {"Draw": self.draw, "Redraw": self.redraw}

    def open(self, *backends: Backend) -> None:
        """Begin to answer from ``backends``, where a call chooses none from the first one.

        Calls that run end with what they began with.
        """
        self._backends = backends
        self.metrics.watch({one.manifest.label: one.engine.stats for one in backends})

    def close(self) -> None:
        """Refuse new calls, and those that are still arriving; those that run go on."""
        self._closed = True
        for arrival in self._arrivals:
            if not arrival.expired():
                arrival.reschedule(0.0)

    async def idle(self, backend: Backend | None = None) -> None:
        """Return when no call runs, or none on ``backend``."""
        while self._running[backend] if backend else self._running.total():
            self._ended.clear()
            await self._ended.wait()

    def stop(self) -> None:
        """Give the threads back."""
        self.close()
        self._workers.close()
        self._brief.close()

    @asynccontextmanager
    async def arriving(self, seconds: float) -> AsyncGenerator[None]:
        """Wait for a request to arrive, for ``seconds`` at most, or until the service closes.

        Raises:
            TimeoutError: it took longer.
            Unavailable: the service does not answer, or no more.
        """
        self._welcoming()
        try:
            async with asyncio.timeout(seconds) as arrival:
                self._arrivals.add(arrival)
                try:
                    yield
                finally:
                    self._arrivals.discard(arrival)
        except TimeoutError:
            self._welcoming()
            raise

    @contextmanager
    def _admitted(self, request: Choosing) -> Iterator[Backend]:
        """Run a call on the bundle that it chooses; refuse it where the service does not serve."""
        backends = self._welcoming()
        intake.check_size(request)
        check_message(request)
        with self._counted(intake.chosen(request.bundle, backends)) as backend:
            yield backend

    @contextmanager
    def _counted(self, backend: Backend) -> Iterator[Backend]:
        """Count a call while it runs."""
        self._running[backend] += 1
        try:
            yield backend
        finally:
            self._running[backend] -= 1
            if not self._running[backend]:
                del self._running[backend]  # it may have been replaced
            self._ended.set()

    def _welcoming(self) -> tuple[Backend, ...]:
        if self._closed:
            raise Unavailable("the service is stopping; send the call to another", retry_after=1.0)
        return self._opened()

    def _opened(self) -> tuple[Backend, ...]:
        if not self._backends:
            raise Unavailable("the service is starting; try again in a second", retry_after=1.0)
        return self._backends

    # ---- plans and drawings ------------------------------------------------------------------

    async def plan(self, request: pb.PlanRequest, call: Call) -> pb.PlanResponse:
        """Write the plan for a prompt."""
        with self._admitted(request) as backend:
            plan = await self._plan(intake.plan_ask(request), call, backend)
            version = backend.manifest.version
            return pb.PlanResponse(plan=plan_to_wire(plan), model_version=version)

    async def draw(self, request: pb.DrawRequest, call: Call) -> AsyncGenerator[pb.DrawEvent]:
        """Draw a prompt or a plan: events as they come, those there together as a group.

        What goes wrong before the first event is raised; later it is the last event.
        """
        began = time.perf_counter()
        with self._admitted(request) as backend:
            begun = request.HasField("resume")
            with backend.engine.room(intake.candidates(request), begun=begun):
                job = await self._job(intake.draw_ask(request), call, backend)
            async with aclosing(draw(job, backend, self._workers)) as groups:
                told, counted = 0, self.metrics.drawing(began)
                try:
                    async for group in groups:
                        counted.take(group)
                        if isinstance(group[-1], Finished):
                            call.trace.drawn(group[-1])
                        yield group_to_wire(group, told)
                        told += len(group)
                except Exception as exc:
                    if not told:
                        raise
                    error = exc if isinstance(exc, HiTreeError) else internal_error(exc, call)
                    yield event_to_wire(Failed(error), told)

    async def _plan(self, ask: PlanAsk, call: Call, backend: Backend) -> Plan:
        work = partial(
            backend.planner.plan,
            ask.prompt,
            seed=ask.seed,
            expansions=ask.expansions,
            max_depth=ask.max_depth,
            max_nodes=ask.max_nodes,
            nearest=ask.nearest,
            temperature=ask.temperature,
        )
        return await self._workers.run("plan", call, work)

    async def _job(self, ask: DrawAsk, call: Call, backend: Backend) -> Job:
        if ask.plan is None:
            plan = await self._plan(ask.ask, call, backend)
        else:
            plan = await self._known(ask.plan, ask.ask.nearest, call, backend)
        return Job(call, ask, plan, await self._conditions(plan, call, backend))

    async def _conditions(self, plan: Plan, call: Call, backend: Backend) -> Floats:
        """What the leaves are drawn under; plans are drawn again, with other seeds or resumed."""
        stacks = tuple(plan.stack(leaf.id) for leaf in plan.leaves)
        key = sha256(repr((plan.subject, stacks)).encode()).digest()
        conditions = backend.conditions.get(key)
        if conditions is None:
            work = partial(backend.models.conditions, stacks, plan.subject)
            conditions = await self._brief.run("condition", call, work, accepted=True)
            backend.conditions[key] = conditions
        return conditions

    async def _known(self, plan: Plan, nearest: bool, call: Call, backend: Backend) -> Plan:
        """A plan that was sent, with a subject that the bundle can draw."""
        if plan.subject in backend.models.subjects:
            return plan
        text = check_text(plan.subject or plan.root.text, "subject")
        work = partial(backend.models.recognise, text, nearest)
        found = await self._brief.run("recognise", call, work)
        return replace(plan, subject=found.subject, confidence=found.confidence)

    # ---- understanding -----------------------------------------------------------------------

    async def annotate(self, request: pb.AnnotateRequest, call: Call) -> pb.AnnotateResponse:
        """Infer the instruction tree behind a drawing."""
        with self._admitted(request) as backend:
            work = partial(
                backend.annotator.annotate,
                intake.drawing(request.drawing),
                subject=request.subject,
                parser=intake.parser(request),
                max_nodes=request.max_nodes,
            )
            tree = await self._workers.run("annotate", call, work)
            return pb.AnnotateResponse(
                tree=plan_to_wire(tree),
                key_id=request.drawing.key_id,
                model_version=backend.manifest.version,
            )

    async def describe(self, request: pb.DescribeRequest, call: Call) -> pb.DescribeResponse:
        """Describe one segment of a drawing, best text first."""
        with self._admitted(request) as backend:
            work = partial(
                backend.annotator.describe,
                intake.drawing(request.drawing),
                request.start,
                request.end,
                subject=request.subject,
                n_best=request.n_best,
            )
            found = await self._workers.run("describe", call, work)
            return pb.DescribeResponse(
                descriptions=[pb.Description(text=d.text, score=d.log_prob) for d in found],
                model_version=backend.manifest.version,
            )

    async def score(self, request: pb.ScoreRequest, call: Call) -> pb.ScoreResponse:
        """Score how well instructions fit segments."""
        with self._admitted(request) as backend:
            drawing = intake.drawing(request.drawing)
            items = [ScoreItem(item.start, item.end, item.text) for item in request.items]
            work = partial(backend.annotator.score, drawing, items)
            scores = await self._workers.run("score", call, work)
            return pb.ScoreResponse(scores=list(scores), model_version=backend.manifest.version)

    # ---- raw models ---------------------------------------------------------------------------

    @property
    def versions(self) -> list[str]:
        """The versions of the raw models: those of the bundles, all of which have the same."""
        return list(dict.fromkeys(backend.manifest.version for backend in self._backends))

    def raw(self, version: str = "") -> RawModels:
        """The graphs of a version; of the default bundle where it is empty.

        Raises:
            Unavailable: the service is starting.
            UnknownModel: no bundle has this version.
        """
        return self._versioned(version, self._opened()).raw

    def _versioned(self, version: str, backends: Sequence[Backend]) -> Backend:
        for backend in backends:
            if version in ("", backend.manifest.version):
                return backend
        raise UnknownModel(
            f"there are no models of version {version!r}; ask for one of {', '.join(self.versions)}"
        )

    async def infer(
        self,
        name: str,
        version: str,
        tensors: Callable[[], Mapping[str, Array]],
        wanted: Sequence[str],
        call: Call,
    ) -> Inferred:
        """Run a raw model on ``tensors``, which are read once the call is admitted."""
        with self._counted(self._versioned(version, self._welcoming())) as backend:
            model = backend.raw.get(name)
            work = partial(model.infer, tensors(), wanted)
            made = await self._workers.run(name, call, work)
            outputs = [(info, made[info.name]) for info in model.outputs if info.name in made]
            return Inferred(backend.manifest.version, outputs)

    # ---- the service itself ------------------------------------------------------------------

    async def model_info(self, request: pb.ModelInfoRequest, call: Call) -> pb.ModelInfoResponse:  # noqa: ARG002 - one shape for all
        """Tell what is served: of the chosen bundle all, of the others how to choose them."""
        with self._admitted(request) as backend:
            manifest = backend.manifest
            graphs = {
                **manifest.graphs,
                "decoder_step": manifest.decoder.file,
                "generator_step": manifest.generator.file,
            }
            return pb.ModelInfoResponse(
                bundle=manifest.name,
                version=manifest.version,
                git_sha=manifest.git_sha,
                data_hash=manifest.data_hash,
                created=manifest.created,
                models=[
                    pb.ModelEntry(name=name, file=file, sha256=manifest.sha256[file])
                    for name, file in sorted(graphs.items())
                ],
                engine=backend.info,
                metrics=manifest.metrics,
                limits=LIMITS.as_dict(),
                server_version=VERSION,
                bundles=[
                    pb.BundleChoice(name=one.manifest.name, version=one.manifest.version)
                    for one in self._backends
                ],
            )

    async def subjects(self, request: pb.SubjectsRequest, call: Call) -> pb.SubjectsResponse:  # noqa: ARG002 - one shape for all
        """List the subjects that the bundle can draw."""
        with self._admitted(request) as backend:
            return pb.SubjectsResponse(subjects=backend.models.subjects)

    async def redraw(
        self,
        request: pb.RedrawRequest,  # noqa: ARG002 - one shape for all
        call: Call,  # noqa: ARG002 - one shape for all
    ) -> AsyncGenerator[pb.DrawEvent]:
        """Not built yet."""
        raise Unimplemented("Redraw is not built yet; use Draw with a canvas")
        yield

    async def session(
        self,
        requests: AsyncIterator[pb.SessionRequest],  # noqa: ARG002 - one shape for all
        call: Call,  # noqa: ARG002 - one shape for all
    ) -> AsyncGenerator[pb.SessionEvent]:
        """Not built yet."""
        raise Unimplemented("Session is not built yet; use Draw")
        yield
