"""Wire messages to types and back, pure; positions cross in quarters of a unit.

Messages to JSON and back are here too (`to_json`, `from_json`, from `hitree.jsonwire`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hitree import events
from hitree.drawing import Drawing, as_stroke
from hitree.errors import HiTreeError, InternalError, InvalidDrawing, InvalidPlan, from_reason
from hitree.jsonwire import from_json, to_json
from hitree.stroke5 import from_grid, to_grid
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from hitree.drawing import Stroke

__all__ = [
    "drawing_from_wire",
    "drawing_to_wire",
    "error_from_wire",
    "error_to_wire",
    "event_from_wire",
    "event_to_wire",
    "from_json",
    "plan_from_wire",
    "plan_to_wire",
    "to_json",
]

_REASONS: dict[events.FinishReason, pb.FinishReason.ValueType] = {
    "complete": pb.FINISH_REASON_COMPLETE,
    "max_points": pb.FINISH_REASON_MAX_POINTS,
}
_REASON_WORDS = {number: word for word, number in _REASONS.items()}

# Events whose fields are named and typed as on the wire.
_FlatEvent = events.Started | events.NodeStarted | events.StrokeFinished | events.NodeFinished


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
    return pb.Plan(
        prompt=plan.prompt,
        subject=plan.subject,
        confidence=plan.confidence,
        nodes=map(_node_to_wire, plan.nodes),
    )


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
    """Wrap an event as number ``index`` of its stream."""
    match event:
        case events.PlanMade():
            return pb.DrawEvent(index=index, plan=plan_to_wire(event.plan))
        case events.Points():
            return pb.DrawEvent(index=index, points=_points_to_wire(event))
        case events.Finished():
            return pb.DrawEvent(index=index, finished=_finished_to_wire(event))
        case events.Failed():
            return pb.DrawEvent(index=index, error=error_to_wire(event.error))
        case _:
            return _flat_to_wire(event, index)


def event_from_wire(message: pb.DrawEvent) -> events.DrawEvent:
    """Unwrap an event.

    Raises:
        InternalError: the event is empty or of a kind that this version does not know.
        InvalidDrawing, InvalidPlan: what it carries does not fit together.
    """
    kind = message.WhichOneof("event")
    if kind not in _FROM_WIRE:
        raise InternalError("the stream sent an event of an unknown kind; install a newer hitree")
    return _FROM_WIRE[kind](message)


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


def _node_to_wire(node: Node) -> pb.Node:
    return pb.Node(
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


def _flat_to_wire(event: _FlatEvent, index: int) -> pb.DrawEvent:
    message = pb.DrawEvent(index=index)
    body = getattr(message, event.kind)
    body.SetInParent()  # also where every field has its default
    for field in fields(event):
        if field.name != "kind":
            setattr(body, field.name, getattr(event, field.name))
    return message


def _flat_from_wire(cls: type[_FlatEvent], message: pb.DrawEvent) -> _FlatEvent:
    body = getattr(message, cls.kind)
    return cls(**{f.name: getattr(body, f.name) for f in fields(cls) if f.name != "kind"})


def _points_to_wire(event: events.Points) -> pb.Points:
    steps = to_grid(event.points)
    return pb.Points(
        xs=steps[:, 0].tolist(),
        ys=steps[:, 1].tolist(),
        t_ms=event.t_ms,
        stroke=event.stroke,
        node=event.node,
    )


def _points_from_wire(message: pb.DrawEvent) -> events.Points:
    body = message.points
    noun = f"event {message.index}"
    points = as_stroke(_positions(body, noun), noun)
    if len(body.t_ms) != len(points):
        raise InvalidDrawing(f"{noun} has {len(points)} points and {len(body.t_ms)} times")
    return events.Points(points, tuple(body.t_ms), body.stroke, body.node)


def _finished_to_wire(event: events.Finished) -> pb.Finished:
    return pb.Finished(
        reason=_REASONS[event.reason],
        strokes=event.strokes,
        points=event.points,
        timings=pb.Timings(**asdict(event.timings)),
    )


def _finished_from_wire(message: pb.DrawEvent) -> events.Finished:
    body = message.finished
    if body.reason not in _REASON_WORDS:
        raise InternalError(f"the stream finished for the unknown reason {body.reason}")
    timings = events.Timings(
        body.timings.queued_ms, body.timings.first_point_ms, body.timings.total_ms
    )
    return events.Finished(_REASON_WORDS[body.reason], body.strokes, body.points, timings)


_FROM_WIRE: dict[str, Callable[[pb.DrawEvent], events.DrawEvent]] = {
    "started": partial(_flat_from_wire, events.Started),
    "plan": lambda message: events.PlanMade(plan_from_wire(message.plan)),
    "node_started": partial(_flat_from_wire, events.NodeStarted),
    "points": _points_from_wire,
    "stroke_finished": partial(_flat_from_wire, events.StrokeFinished),
    "node_finished": partial(_flat_from_wire, events.NodeFinished),
    "finished": _finished_from_wire,
    "error": lambda message: events.Failed(error_from_wire(message.error)),
}
