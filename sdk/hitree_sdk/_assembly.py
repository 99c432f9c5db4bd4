"""A sketch put together from the events of a stream; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import numpy as np

from hitree import codec, events
from hitree.errors import Cancelled, HiTreeError, Unavailable
from hitree_sdk._sketch import Sketch

if TYPE_CHECKING:
    from hitree.drawing import Stroke
    from hitree.tree import Plan
    from hitree.v1 import hitree_pb2 as pb


class Assembly:
    """What a stream has brought so far, and how it ended."""

    def __init__(self, canvas: pb.Drawing) -> None:
        """Begin with the strokes of the canvas, as they were sent."""
        self.finished = False  # the finished event has come
        self.begun = False  # an event has been handed on: no other try from now on
        self._canvas = codec.drawing_from_wire(canvas).strokes
        self._pieces: dict[int, list[Stroke]] = {}  # by index of the stroke
        self._spans: dict[int, tuple[int, int]] = {}  # of the leaves drawn
        self._plan: Plan | None = None
        self._seed: int | None = None
        self._subject = ""
        self._error: HiTreeError | None = None

    def take(self, message: pb.DrawEvent) -> events.DrawEvent:
        """Read the next message and keep what it brings.

        Raises:
            HiTreeError: it is an ``error`` event; the error that it carries.
        """
        event = codec.event_from_wire(message)
        self._keep(event)
        self.begun = True
        return event

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
        return Sketch([*self._canvas, *drawn], plan=plan, seed=self._seed, subject=self._subject)

    def _keep(self, event: events.DrawEvent) -> None:
        match event:
            case events.Started():
                self._seed, self._subject = event.seed, event.subject
            case events.PlanMade():
                self._plan = event.plan
                self._subject = self._subject or event.plan.subject
            case events.Points():
                self._pieces.setdefault(event.stroke, []).append(event.points)
            case events.NodeFinished():
                self._spans[event.node] = (event.start, event.end)
            case events.Finished():
                self.finished = True
            case events.Failed():
                raise event.error
            case events.NodeStarted() | events.StrokeFinished():
                pass
            case _:
                assert_never(event)
