"""Wire messages to types and back, pure; positions cross in quarters of a unit.

Messages to JSON and back are here too (`to_json`, `from_json`, from `hitree.jsonwire`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hitree import events
from hitree.drawing import Drawing, as_stroke
from hitree.errors import (
    EmptyDrawing,
    HiTreeError,
    InternalError,
    InvalidDrawing,
    InvalidPlan,
    from_reason,
)
from hitree.jsonwire import from_json, to_json
from hitree.stroke5 import GRID, from_grid, to_grid
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hitree.drawing import Stroke

__all__ = [
    "drawing_from_wire",
    "drawing_to_wire",
    "error_from_wire",
    "error_to_wire",
    "event_from_wire",
    "event_to_wire",
    "from_json",
    "group_to_wire",
    "plan_from_wire",
    "plan_to_wire",
    "to_json",
    "ungrouped",
]

_REASONS: dict[events.FinishReason, pb.FinishReason.ValueType] = {
    "complete": pb.FINISH_REASON_COMPLETE,
    "max_points": pb.FINISH_REASON_MAX_POINTS,
}
_REASON_WORDS = {number: word for word, number in _REASONS.items()}


def drawing_to_wire(drawing: Drawing, key_id: str = "") -> pb.Drawing:
    """Round a drawing to quarters of a unit.

    Raises:
        NotFinite, OutOfFrame: a coordinate does not fit the wire.
    """
    return pb.Drawing(strokes=map(_stroke_to_wire, drawing.strokes), key_id=key_id)


def drawing_from_wire(message: pb.Drawing) -> Drawing:
    """Read a drawing; its size is checked by `Drawing.check`, not here.

    Raises:
        InvalidDrawing: a stroke has not as many ys as xs.
        EmptyDrawing: a stroke has no points.
    """
    pairs = ((f"stroke {index}", each) for index, each in enumerate(message.strokes))
    return Drawing(tuple(as_stroke(_positions(each, noun), noun) for noun, each in pairs))


def plan_to_wire(plan: Plan) -> pb.Plan:
    """Flatten a plan to its nodes in preorder."""
    message = pb.Plan()
    _fill_plan(message, plan)
    return message


def plan_from_wire(message: pb.Plan) -> Plan:
    """Link the nodes of a plan; their texts are not checked here.

    Raises:
        InvalidPlan: the nodes are no tree (see `hitree.tree.build`), or a score is not finite.
    """
    root = build([_node_from_wire(node) for node in message.nodes])
    if not math.isfinite(message.confidence):
        raise InvalidPlan("the plan's confidence is NaN or infinite; send 0 to 1")
    return Plan(root, message.subject, message.confidence, message.prompt)


def event_to_wire(event: events.DrawEvent, index: int) -> pb.DrawEvent:
    """Wrap an event as number ``index`` of its stream; its points are finite."""
    message = pb.DrawEvent()
    _fill_event(message, event, index)
    return message


def group_to_wire(group: Sequence[events.DrawEvent], first: int) -> pb.DrawEvent:
    """Wrap events that come together, the first as number ``first``; a single one as itself."""
    if len(group) == 1:
        return event_to_wire(group[0], first)
    message = pb.DrawEvent(index=first)
    members = message.group.events
    for index, event in enumerate(group, first):
        _fill_event(members.add(), event, index)
    return message


def ungrouped(message: pb.DrawEvent) -> Sequence[pb.DrawEvent]:
    """The events of a message, one or a group."""
    return message.group.events if message.HasField("group") else (message,)


def event_from_wire(message: pb.DrawEvent) -> events.DrawEvent:
    """Unwrap an event.

    Raises:
        InternalError: the event is empty or of a kind that this version does not know.
        InvalidDrawing, InvalidPlan: what it carries does not fit together.
    """
    read = _FROM_WIRE.get(message.WhichOneof("event"))
    if read is None:
        raise InternalError("the stream sent an event of an unknown kind; install a newer hitree")
    return read(message)


def error_to_wire(error: HiTreeError) -> pb.Error:
    """Describe an error; the retry hint is rounded up to milliseconds."""
    return pb.Error(
        reason=error.reason,
        message=error.message,
        retry_after_ms=math.ceil((error.retry_after or 0) * 1000),
        details=error.details,
    )


def error_from_wire(message: pb.Error) -> HiTreeError:
    """Build the error that a message describes; an unknown reason gives `InternalError`."""
    return from_reason(
        message.reason,
        message.message,
        details=dict(message.details),
        retry_after=message.retry_after_ms / 1000 or None,
    )


def _stroke_to_wire(stroke: Stroke) -> pb.Stroke:
    steps = to_grid(stroke)
    return pb.Stroke(xs=steps[:, 0].tolist(), ys=steps[:, 1].tolist())


def _positions(message: pb.Stroke | pb.Points, noun: str) -> Stroke:
    """The (N, 2) positions of a message that carries xs and ys, in units."""
    xs, ys = list(message.xs), list(message.ys)
    if len(xs) != len(ys):
        raise InvalidDrawing(f"{noun} has {len(xs)} xs and {len(ys)} ys; send as many of each")
    return from_grid(np.array([xs, ys], np.int32).T)


def _fill_plan(message: pb.Plan, plan: Plan) -> None:
    message.prompt, message.subject = plan.prompt, plan.subject
    message.confidence = plan.confidence
    for node in plan.nodes:
        message.nodes.add(
            id=node.id,
            parent=node.parent,
            text=node.text,
            start=node.start,
            end=node.end,
            score=node.score,
        )


def _node_from_wire(node: pb.Node) -> Node:
    if not math.isfinite(node.score):
        raise InvalidPlan(f"the score of node {node.id} is NaN or infinite; send a number or none")
    return Node(
        id=node.id,
        parent=node.parent if node.HasField("parent") else None,
        text=node.text,
        start=node.start if node.HasField("start") else None,
        end=node.end if node.HasField("end") else None,
        score=node.score if node.HasField("score") else None,
    )


def _fill_event(message: pb.DrawEvent, event: events.DrawEvent, index: int) -> None:
    """Write an event where it belongs: a stream makes thousands, so that none is copied."""
    message.index = index
    match event:
        case events.Points():
            _fill_points(message.points, event)
        case events.StrokeFinished():
            lifted = message.stroke_finished
            lifted.stroke, lifted.node = event.stroke, event.node
        case events.NodeStarted():
            begun = message.node_started
            begun.node, begun.text = event.node, event.text
        case events.NodeFinished():
            done = message.node_finished
            done.node, done.start, done.end = event.node, event.start, event.end
        case events.Started():
            _fill_started(message.started, event)
        case events.PlanMade():
            _fill_plan(message.plan, event.plan)
        case events.Finished():
            _fill_finished(message.finished, event)
        case _:
            message.error.CopyFrom(error_to_wire(event.error))


def _fill_points(message: pb.Points, event: events.Points) -> None:
    # Mostly a few points: plain numbers are cheaper than arrays of them.
    xs, ys = event.points.T.tolist()
    message.xs.extend([round(GRID * x) for x in xs])
    message.ys.extend([round(GRID * y) for y in ys])
    message.t_ms.extend(event.t_ms)
    message.stroke, message.node = event.stroke, event.node


def _fill_started(message: pb.Started, event: events.Started) -> None:
    message.request_id, message.subject = event.request_id, event.subject
    message.seed, message.model_version = event.seed, event.model_version
    message.frame = event.frame
    message.replayed, message.candidate = event.replayed, event.candidate


def _fill_finished(message: pb.Finished, event: events.Finished) -> None:
    message.reason = _REASONS[event.reason]
    message.strokes, message.points = event.strokes, event.points
    told, timings = event.timings, message.timings
    timings.queued_ms, timings.first_point_ms = told.queued_ms, told.first_point_ms
    timings.total_ms = told.total_ms


def _started_from_wire(message: pb.DrawEvent) -> events.Started:
    body = message.started
    return events.Started(
        body.request_id,
        body.subject,
        body.seed,
        body.model_version,
        frame=body.frame,
        replayed=body.replayed,
        candidate=body.candidate,
    )


def _plan_made_from_wire(message: pb.DrawEvent) -> events.PlanMade:
    return events.PlanMade(plan_from_wire(message.plan))


def _node_started_from_wire(message: pb.DrawEvent) -> events.NodeStarted:
    body = message.node_started
    return events.NodeStarted(body.node, body.text)


def _points_from_wire(message: pb.DrawEvent) -> events.Points:
    body, t_ms = message.points, tuple(message.points.t_ms)
    points = _positions(body, f"event {message.index}")
    if len(points) == 0:
        raise EmptyDrawing(f"event {message.index} has no points")
    if len(t_ms) != len(points):
        raise InvalidDrawing(
            f"event {message.index} has {len(points)} points and {len(t_ms)} times"
        )
    return events.Points(points, t_ms, body.stroke, body.node)


def _stroke_finished_from_wire(message: pb.DrawEvent) -> events.StrokeFinished:
    body = message.stroke_finished
    return events.StrokeFinished(body.stroke, body.node)


def _node_finished_from_wire(message: pb.DrawEvent) -> events.NodeFinished:
    body = message.node_finished
    return events.NodeFinished(body.node, body.start, body.end)


def _finished_from_wire(message: pb.DrawEvent) -> events.Finished:
    body, told = message.finished, message.finished.timings
    if body.reason not in _REASON_WORDS:
        raise InternalError(f"the stream finished for the unknown reason {body.reason}")
    timings = events.Timings(told.queued_ms, told.first_point_ms, told.total_ms)
    return events.Finished(_REASON_WORDS[body.reason], body.strokes, body.points, timings)


def _failed_from_wire(message: pb.DrawEvent) -> events.Failed:
    return events.Failed(error_from_wire(message.error))


_FROM_WIRE: dict[str | None, Callable[[pb.DrawEvent], events.DrawEvent]] = {
    "started": _started_from_wire,
    "plan": _plan_made_from_wire,
    "node_started": _node_started_from_wire,
    "points": _points_from_wire,
    "stroke_finished": _stroke_finished_from_wire,
    "node_finished": _node_finished_from_wire,
    "finished": _finished_from_wire,
    "error": _failed_from_wire,
}
