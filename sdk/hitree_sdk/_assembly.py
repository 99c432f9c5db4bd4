"""A sketch put together from the events of a stream, and the request for what is missing; no I/O.

A stream that broke is taken up by another one, which begins with ``started`` and ``plan`` again:
what the reader has been told is not told twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import numpy as np

from hitree import codec, events
from hitree.drawing import Drawing
from hitree.errors import Cancelled, HiTreeError, Unavailable
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk._sketch import Sketch

if TYPE_CHECKING:
    from hitree.drawing import Stroke
    from hitree.tree import Plan

Drawn = events.NodeStarted | events.Points | events.StrokeFinished | events.NodeFinished


class Assembly:
    """What a stream has brought so far, and how it ended."""

    def __init__(self, canvas: pb.Drawing) -> None:
        """Begin with the strokes of the canvas, as they were sent."""
        self.finished = False  # the finished event has come
        self._canvas = codec.drawing_from_wire(canvas).strokes
        self._pieces: dict[int, list[Stroke]] = {}  # by index of the stroke
        self._nodes: dict[int, int] = {}  # of the strokes
        self._over: set[int] = set()  # strokes that are finished
        self._begun: set[int] = set()  # leaves that have been begun
        self._spans: dict[int, tuple[int, int]] = {}  # of the leaves drawn
        self._plan: Plan | None = None
        self._started: events.Started | None = None
        self._subject = ""
        self._error: HiTreeError | None = None

    def take(self, message: pb.DrawEvent) -> events.DrawEvent | None:
        """Read the next message and keep what it brings; None where that is nothing new.

        Raises:
            HiTreeError: it is an ``error`` event; the error that it carries.
        """
        event = codec.event_from_wire(message)
        known = self._knows(event)
        self._keep(event)
        return None if known else event

    def rest(self, request: pb.DrawRequest) -> pb.DrawRequest:
        """The request for what has not come yet of a stream that broke off."""
        if self._started is None:
            return request
        asked = pb.DrawRequest()
        asked.CopyFrom(request)
        asked.seed = self._started.seed
        asked.bundle.version = self._started.model_version  # another one draws something else
        if self._plan is not None:
            asked.plan.CopyFrom(codec.plan_to_wire(self._plan))
        strokes = sorted(self._pieces)
        drawn = Drawing(tuple(np.concatenate(self._pieces[index]) for index in strokes))
        asked.resume.CopyFrom(
            pb.Resume(
                strokes=codec.drawing_to_wire(drawn).strokes,
                nodes=[self._nodes[index] for index in strokes],
                last_stroke_finished=bool(strokes) and strokes[-1] in self._over,
                candidate=self._started.candidate,
            )
        )
        return asked

    def end(self) -> None:
        """Note that the stream is over.

        Raises:
            Unavailable: it ended without its last event.
        """
        if not self.finished:
            raise Unavailable(
                "the stream ended before its drawing was finished; the service or a proxy broke "
                "it off, try again"
            )

    def fail(self, error: HiTreeError) -> None:
        """Note that the stream broke."""
        if isinstance(error, Cancelled) and error.partial is None:
            error.partial = self.sketch()
        self._error = error

    def result(self) -> Sketch:
        """The whole drawing.

        Raises:
            HiTreeError: what the stream broke with.
            Cancelled: the stream was left early; ``partial`` is the sketch so far.
        """
        if self.finished:
            return self.sketch()
        if self._error is not None:
            raise self._error
        cancelled = Cancelled(
            "the stream was left before its drawing was finished; the error's partial holds "
            "what had been drawn"
        )
        cancelled.partial = self.sketch()
        raise cancelled

    def sketch(self) -> Sketch:
        """What there is so far, the canvas first."""
        drawn = [np.concatenate(self._pieces[index]) for index in sorted(self._pieces)]
        plan = None if self._plan is None else self._plan.with_spans(self._spans)
        seed = self._started.seed if self._started else None
        return Sketch([*self._canvas, *drawn], plan=plan, seed=seed, subject=self._subject)

    def _knows(self, event: events.DrawEvent) -> bool:
        match event:
            case events.Started():
                return self._started is not None
            case events.PlanMade():
                return self._plan is not None
            case events.NodeStarted():
                return event.node in self._begun
            case events.NodeFinished():
                return event.node in self._spans
            case _:
                return False

    def _keep(self, event: events.DrawEvent) -> None:
        match event:
            case events.Started():
                self._started, self._subject = event, event.subject
            case events.PlanMade():
                self._plan = event.plan
                self._subject = self._subject or event.plan.subject
            case events.Finished():
                self.finished = True
            case events.Failed():
                raise event.error
            case _:
                self._draw(event)

    def _draw(self, event: Drawn) -> None:
        match event:
            case events.NodeStarted():
                self._begun.add(event.node)
            case events.Points():
                self._pieces.setdefault(event.stroke, []).append(event.points)
                self._nodes[event.stroke] = event.node
            case events.StrokeFinished():
                self._over.add(event.stroke)
            case events.NodeFinished():
                self._spans[event.node] = (event.start, event.end)
            case _:
                assert_never(event)
