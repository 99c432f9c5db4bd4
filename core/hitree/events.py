"""What happens while a drawing is made: the closed union of draw events.

A stream is ``Started``, ``PlanMade``, then for every leaf ``NodeStarted``, ``Points`` and
``StrokeFinished`` in turns and ``NodeFinished``, and in the end ``Finished`` or ``Failed``, after
which nothing follows. Names are the wire's; ``t_ms`` is pen time, a function of the drawing alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hitree.drawing import Stroke
    from hitree.errors import HiTreeError
    from hitree.tree import Plan

FinishReason = Literal["complete", "max_points"]


@dataclass(frozen=True)
class Started:
    """The request was accepted and begins."""

    request_id: str
    subject: str  # with spaces
    seed: int  # gives the same drawing again
    model_version: str
    frame: int = 256  # units
    replayed: bool = False  # candidates were ranked first
    candidate: int = 0  # the candidate that is sent
    kind: Literal["started"] = "started"


@dataclass(frozen=True)
class PlanMade:
    """The plan that is about to be drawn."""

    plan: Plan
    kind: Literal["plan"] = "plan"


@dataclass(frozen=True)
class NodeStarted:
    """A leaf begins."""

    node: int
    text: str
    kind: Literal["node_started"] = "node_started"


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one stroke, in order."""

    points: Stroke  # (N, 2) absolute units
    t_ms: tuple[int, ...]  # N, pen time since the start
    stroke: int  # index in the drawing, the canvas counted
    node: int
    kind: Literal["points"] = "points"


@dataclass(frozen=True)
class StrokeFinished:
    """The pen lifts."""

    stroke: int
    node: int
    kind: Literal["stroke_finished"] = "stroke_finished"


@dataclass(frozen=True)
class NodeFinished:
    """A leaf is drawn: strokes ``[start, end)``."""

    node: int
    start: int
    end: int
    kind: Literal["node_finished"] = "node_finished"


@dataclass(frozen=True)
class Timings:
    """Wall times of one request, in milliseconds."""

    queued_ms: float
    first_point_ms: float
    total_ms: float


@dataclass(frozen=True)
class Finished:
    """The drawing is done; the last event."""

    reason: FinishReason
    strokes: int
    points: int
    timings: Timings
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True, eq=False)
class Failed:
    """The drawing broke off; the last event."""

    error: HiTreeError
    kind: Literal["error"] = "error"


DrawEvent = (
    Started | PlanMade | NodeStarted | Points | StrokeFinished | NodeFinished | Finished | Failed
)
