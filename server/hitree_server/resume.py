"""What a client holds of a drawing that broke off, checked, as the engine is told of it.

Points that the client sent back are forced through the decoder, whatever drew them, so that the
rest follows from what the client shows. Their noise is used up alongside, so that on the same kind
of processor the drawing is the very one that broke off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hitree.codec import drawing_from_wire
from hitree.drawing import Drawing
from hitree.errors import InvalidInput
from hitree.limits import LIMITS
from hitree.stroke5 import to_rows
from hitree.v1 import hitree_pb2 as pb
from hitree_server.engine.sequence import END, NO_END, NO_ENDS, NO_ROWS, SAMPLED

if TYPE_CHECKING:
    from hitree.tree import Plan
    from hitree_server.engine.sequence import Floats, Integers


@dataclass(frozen=True, eq=False)
class Held:
    """What a client has of a drawing, the canvas not counted."""

    points: int
    strokes: int  # finished ones
    candidate: int
    rows: Floats  # (R, 5) stroke-5 rows of the points that are forced; R may be less than points
    ends: Integers  # (R,) whether a leaf ends with each, see `hitree_server.engine.sequence`


def held(message: pb.Resume, plan: Plan | None, canvas: Drawing | None) -> Held | None:
    """Check a `Resume`; None where the client has nothing yet.

    Raises:
        InvalidInput: strokes come without their plan, or nodes are not its leaves in order.
        InvalidDrawing: the strokes cannot be.
    """
    points, strokes = received(message)
    if strokes > points:
        raise InvalidInput(f"resume has {strokes} strokes of {points} points; send what came")
    if sum(len(stroke.xs) for stroke in message.strokes) <= 1:  # too few to be a drawing
        return Held(points, strokes, message.candidate, NO_ROWS, NO_ENDS) if points else None
    if plan is None:
        raise InvalidInput("resume with strokes needs their plan; send that of the plan event")
    drawing = drawing_from_wire(pb.Drawing(strokes=message.strokes)).check(
        max_points=LIMITS.max_points, noun="resumed drawing"
    )
    points_of = [len(stroke) for stroke in drawing.strokes]
    leaves = np.repeat(_leaves(message, plan), points_of)  # of every point
    # Of an unfinished stroke the last point is drawn again: it may have been the stroke's last.
    forced = points if message.last_stroke_finished else points - 1
    ends = np.append(np.where(np.diff(leaves) > 0, END, NO_END), SAMPLED)
    before = canvas.strokes if canvas else ()
    rows = to_rows(Drawing((*before, *drawing.strokes)), end=False)[sum(map(len, before)) :]
    return Held(points, strokes, message.candidate, rows[:forced], ends[:forced])


def received(message: pb.Resume) -> tuple[int, int]:
    """How many points and finished strokes a client has."""
    if not message.strokes:
        return message.points, message.finished_strokes
    points = sum(len(stroke.xs) for stroke in message.strokes)
    return points, len(message.strokes) - (not message.last_stroke_finished)


def _leaves(message: pb.Resume, plan: Plan) -> Integers:
    """The leaf of every stroke, by its place among the plan's leaves."""
    places = {leaf.id: place for place, leaf in enumerate(plan.leaves)}
    found = [places.get(node, -1) for node in message.nodes]
    steps = np.diff([0, *found])
    if len(found) != len(message.strokes) or not set(steps.tolist()) <= {0, 1}:
        raise InvalidInput(
            f"resume has {len(message.strokes)} strokes of the nodes {list(message.nodes)}; send "
            f"one node for each stroke, of the plan's leaves {list(places)} in their order"
        )
    return np.array(found)
