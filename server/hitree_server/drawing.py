"""A drawing being made: engine streams in, draw events out.

One candidate is sent while it is drawn. Several are drawn side by side first, ranked by how well
their segments fit the plan's instructions, and the best one is replayed.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import numpy as np

from hitree.drawing import Drawing
from hitree.events import (
    DrawEvent,
    Failed,
    Finished,
    NodeFinished,
    NodeStarted,
    PlanMade,
    Points,
    Started,
    StrokeFinished,
)
from hitree.stroke5 import to_rows
from hitree_server.engine.sequence import (
    NO_ENDS,
    NO_ROWS,
    Broken,
    Ended,
    EngineEvent,
    Floats,
    Leaf,
    LeafEnded,
    LeafStarted,
    PointsMade,
    SequenceSpec,
    StrokeEnded,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from hitree.tree import Node, Plan
    from hitree_server.backend import Backend
    from hitree_server.calls import Call
    from hitree_server.engine import Stream
    from hitree_server.intake import DrawAsk
    from hitree_server.models import Models
    from hitree_server.workers import Workers

LEAF_POINTS = 60  # most points of one leaf, where the bundle sets none
TEMPERATURE = 0.3  # where neither the caller nor the bundle sets one


@dataclass(frozen=True, eq=False)
class Job:
    """A drawing that is ready to be made."""

    call: Call
    ask: DrawAsk
    plan: Plan
    conditions: Floats  # (leaves, C)

    def sequence(self, candidate: int, settings: dict[str, float]) -> SequenceSpec:
        """What the engine is asked for; ``settings`` are the bundle's."""
        ask, canvas, held = self.ask, self.ask.canvas, self.ask.held
        pairs = zip(self.plan.leaves, self.conditions, strict=True)
        temperature = ask.temperature or settings.get("temperature", TEMPERATURE)
        # A plan that is a root alone is drawn as a whole, which is as long as it is.
        parts = len(self.plan.leaves) > 1
        longest = int(settings.get("max_points_leaf", LEAF_POINTS)) if parts else ask.max_points
        return SequenceSpec(
            request_id=self.call.request_id,
            leaves=tuple(Leaf(node.id, condition) for node, condition in pairs),
            seed=ask.ask.seed,
            max_points=ask.max_points,
            max_points_leaf=longest,
            temperature=temperature,
            candidate=candidate,
            prefix=to_rows(canvas, end=False) if canvas else NO_ROWS,
            recalled=held.rows if held else NO_ROWS,
            recalled_ends=held.ends if held else NO_ENDS,
            known=held.points if held else 0,
            first_stroke=len(canvas.strokes) if canvas else 0,
            priority=ask.priority,
            deadline=self.call.deadline,
        )


async def draw(job: Job, backend: Backend, workers: Workers) -> AsyncGenerator[list[DrawEvent]]:
    """The events of a drawing as they come, those that are there together side by side.

    Closing the iterator frees the engine's rows.

    Raises:
        Overloaded: the engine's queue is full; nothing was yielded.
    """
    ask, leaves = job.ask, job.plan.leaves
    # A candidate that was chosen once is not chosen again.
    candidates = range(ask.candidates) if not ask.held else (ask.held.candidate,)
    with _submitted(job, backend, candidates) as streams:
        if len(streams) == 1:
            started = _started(job, backend, candidates[0], replayed=ask.candidates > 1)
            yield [started, PlanMade(job.plan)]
            while group := await streams[0].group():
                news = [tell(e, leaves) for e in group if not _is_held(e, ask)]
                if news:
                    yield news
            return
        drawn = await asyncio.gather(*(_collect(stream) for stream in streams))
        ranking = _ranking(job, drawn, backend.models)
        best = await workers.run("rank", job.call, ranking, accepted=True)
        yield [_started(job, backend, best, replayed=True), PlanMade(job.plan)]
        yield [tell(event, leaves) for event in drawn[best]]


def tell(event: EngineEvent, leaves: tuple[Node, ...]) -> DrawEvent:
    """An engine's event in the words of the wire; ``leaves`` are the plan's."""
    match event:
        case LeafStarted():
            return NodeStarted(leaves[event.leaf].id, leaves[event.leaf].text)
        case PointsMade():
            times = tuple(event.t_ms.tolist())
            return Points(event.positions, times, event.stroke, leaves[event.leaf].id)
        case StrokeEnded():
            return StrokeFinished(event.stroke, leaves[event.leaf].id)
        case LeafEnded():
            return NodeFinished(leaves[event.leaf].id, event.start, event.end)
        case Ended():
            return Finished(event.reason, event.strokes, event.points, event.timings)
        case Broken():
            return Failed(event.error)
        case _:
            assert_never(event)


def fit(job: Job, events: list[EngineEvent], models: Models) -> float:
    """How well a finished candidate fits its plan: the mean over the root and the drawn leaves."""
    strokes = _strokes(events)
    before = job.ask.canvas.strokes if job.ask.canvas else ()
    first, last = len(before), len(before) + len(strokes)
    if first == last:
        return -1.0  # as bad as a fit can be
    spans, texts = [(first, last)], [job.plan.root.text]
    for event in events:
        if isinstance(event, LeafEnded) and event.start < event.end:
            spans.append((event.start, event.end))
            texts.append(job.plan.leaves[event.leaf].text)
    segments = models.embed_segments(Drawing((*before, *strokes)), np.array(spans, np.int64))
    return float((segments * models.embed_texts(texts)).sum(axis=1).mean())


def _is_held(event: EngineEvent, ask: DrawAsk) -> bool:
    """Whether the caller has seen the end of this stroke; points are the engine's to leave out."""
    if not (ask.held and isinstance(event, StrokeEnded)):
        return False
    return event.stroke < ask.held.strokes + (len(ask.canvas.strokes) if ask.canvas else 0)


@contextmanager
def _submitted(job: Job, backend: Backend, candidates: Iterable[int]) -> Iterator[list[Stream]]:
    streams: list[Stream] = []
    settings = backend.manifest.settings
    sequences = (job.sequence(candidate, settings) for candidate in candidates)
    try:
        streams.extend(map(backend.engine.submit, sequences))  # keeps those before a refusal
        yield streams
    finally:
        for stream in streams:
            stream.cancel()


def _started(job: Job, backend: Backend, candidate: int, *, replayed: bool) -> Started:
    return Started(
        request_id=job.call.request_id,
        subject=job.plan.subject,
        seed=job.ask.ask.seed,
        model_version=backend.manifest.version,
        replayed=replayed,
        candidate=candidate,
    )


async def _collect(stream: Stream) -> list[EngineEvent]:
    events = [event async for event in stream]
    if isinstance(events[-1], Broken):
        raise events[-1].error
    return events


def _ranking(job: Job, drawn: list[list[EngineEvent]], models: Models) -> Callable[[], int]:
    return lambda: int(np.argmax([fit(job, events, models) for events in drawn]))


def _strokes(events: list[EngineEvent]) -> list[Floats]:
    parts: dict[int, list[Floats]] = {}
    for event in events:
        if isinstance(event, PointsMade):
            parts.setdefault(event.stroke, []).append(event.positions)
    return [np.concatenate(parts[stroke]) for stroke in sorted(parts)]
