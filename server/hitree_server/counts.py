"""How much a request may hold, told by counting: before anything is made of it.

The same rules for a message and for the JSON of one, which is counted before a message is built:
millions of strokes or items fit the bytes of a request, and nobody is answered meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any  # Any: JSON or a message, whose fields depend on its kind

from hitree.drawing import check_counts
from hitree.errors import InvalidInput, InvalidPlan
from hitree.limits import LIMITS
from hitree.v1 import hitree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    _Check = Callable[[Sequence[Any]], None]


def check_message(request: Message) -> None:
    """Refuse a request that holds more than the limits allow.

    Raises:
        TooManyStrokes, TooManyPoints: of a drawing.
        InvalidPlan: it has too many nodes.
        InvalidInput: there are too many of something else.
    """
    _check(request, type(request))


def check_json(value: object, kind: type[Message]) -> None:
    """Refuse the JSON of a request of a ``kind`` as `check_message` does.

    What is of another type than its field counts for nothing: `hitree.codec.from_json` refuses it.
    """
    _check(value, kind)


def _check(request: Any, kind: type[Message]) -> None:
    for path, check in _CHECKS.items():
        if path[0] in kind.DESCRIPTOR.fields_by_name:
            check(_listed(request, path))


def _listed(value: Any, path: tuple[str, ...]) -> Sequence[Any]:
    """The list at a path, empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _strokes(noun: str, most_strokes: int, most_points: int) -> _Check:
    """What checks the strokes of a drawing."""

    def check(strokes: Sequence[Any]) -> None:
        points = map(_points, strokes)
        check_counts(
            len(strokes), points, max_strokes=most_strokes, max_points=most_points, noun=noun
        )

    return check


def _points(stroke: object) -> int:
    """How many points a stroke has, or would have were it well made."""
    if isinstance(stroke, pb.Stroke):
        return max(len(stroke.xs), len(stroke.ys))
    return len(stroke) if isinstance(stroke, list | tuple) else 0


def _check_nodes(nodes: Sequence[Any]) -> None:
    if len(nodes) > LIMITS.plan_nodes:
        raise InvalidPlan(
            f"a plan has 1 to {LIMITS.plan_nodes} nodes, this one {len(nodes)}; send fewer"
        )


def _check_leaves(nodes: Sequence[Any]) -> None:
    if len(nodes) > LIMITS.max_points:
        raise InvalidInput(
            f"resume has {len(nodes)} nodes, one for each stroke, and no drawing has more strokes "
            f"than the {LIMITS.max_points} points allowed; send those of the drawing"
        )


def _check_items(items: Sequence[Any]) -> None:
    if len(items) > LIMITS.score_items:
        raise InvalidInput(f"there are {len(items)} items to score; send 1 to {LIMITS.score_items}")


_CHECKS: dict[tuple[str, ...], _Check] = {
    ("drawing", "strokes"): _strokes("drawing", LIMITS.drawing_strokes, LIMITS.drawing_points),
    ("canvas", "strokes"): _strokes("canvas", LIMITS.canvas_strokes, LIMITS.canvas_points),
    ("resume", "strokes"): _strokes("resumed drawing", LIMITS.max_points, LIMITS.max_points),
    ("resume", "nodes"): _check_leaves,
    ("plan", "nodes"): _check_nodes,
    ("items",): _check_items,
}
"""By where in a request a list is."""
