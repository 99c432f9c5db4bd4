"""Requests built and replies read: everything about a call that is no I/O.

Both clients are thin over this module. Input is checked here with the table of limits that the
service uses, so that a wrong call fails before it is sent and with the same error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from hitree import codec
from hitree.drawing import Drawing
from hitree.errors import InvalidDrawing, InvalidInput
from hitree.limits import LIMITS
from hitree.text import check_text
from hitree.tree import Plan
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk._config import Config, seconds
from hitree_sdk._info import Description
from hitree_sdk._retry import Attempts
from hitree_sdk._sketch import Sketch

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from numpy.typing import ArrayLike

Parser = Literal["greedy", "cky", "bottom_up"]
DrawingLike = Sketch | Drawing | Sequence["ArrayLike"]
"""A sketch, a drawing, or its strokes: a sequence of (N, 2) arrays or lists of [x, y], units."""

HOTTEST = 2.0
_UINT64 = 2**64 - 1


class Spanned(Protocol):
    """A text for the strokes ``[start, end)``: a `ScoreItem`, or a node of a tree."""

    @property
    def start(self) -> int | None: ...
    @property
    def end(self) -> int | None: ...
    @property
    def text(self) -> str: ...


def attempts(config: Config, timeout: float | None) -> Callable[[], Attempts]:
    """What starts the clock of a call; ``timeout`` in seconds, None is the client's own.

    Raises:
        InvalidInput: ``timeout`` is no positive number.
    """
    limit = config.timeout if timeout is None else seconds(timeout)
    return partial(Attempts, limit, config.retries)


# ---- requests --------------------------------------------------------------------------------


def plan_request(
    prompt: str,
    *,
    seed: int | None = None,
    temperature: float | None = None,
    nearest_subject: bool = False,
    max_nodes: int | None = None,
) -> pb.PlanRequest:
    """Build the request of ``Plan``; see `Client.plan`."""
    options = pb.PlanOptions(
        nearest_subject=bool(nearest_subject),
        temperature=_temperature(temperature) or 0.0,
        max_nodes=_whole(max_nodes, "max_nodes", 1, LIMITS.plan_nodes) or 0,
    )
    request = pb.PlanRequest(prompt=check_text(prompt), options=options)
    if (checked := _whole(seed, "seed", 0, _UINT64)) is not None:
        request.seed = checked
    return request


def draw_request(
    what: str | Plan,
    *,
    seed: int | None = None,
    temperature: float | None = None,
    canvas: DrawingLike | None = None,
    max_points: int | None = None,
    candidates: int | None = None,
    nearest_subject: bool = False,
) -> pb.DrawRequest:
    """Build the request of ``Draw``; see `Client.draw`."""
    request = pb.DrawRequest(
        max_points=_whole(max_points, "max_points", 1, LIMITS.max_points) or 0,
        candidates=_whole(candidates, "candidates", 1, LIMITS.candidates) or 0,
        plan_options=pb.PlanOptions(nearest_subject=bool(nearest_subject)),
    )
    if isinstance(what, Plan):
        request.plan.CopyFrom(codec.plan_to_wire(what))
    else:
        request.prompt = check_text(what)
    if (checked := _whole(seed, "seed", 0, _UINT64)) is not None:
        request.seed = checked
    if (heat := _temperature(temperature)) is not None:
        request.temperature = heat
    if canvas is not None:
        request.canvas.CopyFrom(codec.drawing_to_wire(_canvas(canvas)))
    check_size(request)
    return request


def annotate_request(
    drawing: DrawingLike, *, subject: str | None = None, parser: Parser | None = None
) -> pb.AnnotateRequest:
    """Build the request of ``Annotate``; see `Client.annotate`."""
    return pb.AnnotateRequest(
        drawing=_drawing(drawing), subject=_subject(drawing, subject), parser=_parser(parser)
    )


def describe_request(
    drawing: DrawingLike, start: int, end: int, *, subject: str | None = None, n_best: int = 1
) -> pb.DescribeRequest:
    """Build the request of ``Describe``; see `Client.describe`."""
    wire = _drawing(drawing)
    first, last = _span(start, end, len(wire.strokes))
    return pb.DescribeRequest(
        drawing=wire,
        start=first,
        end=last,
        subject=_subject(drawing, subject),
        n_best=_whole(n_best, "n_best", 1, LIMITS.n_best) or 1,
    )


def score_request(drawing: DrawingLike, items: Iterable[Spanned]) -> pb.ScoreRequest:
    """Build the request of ``Score``; see `Client.score`."""
    wire = _drawing(drawing)
    request = pb.ScoreRequest(drawing=wire)
    for item in items:
        start, end = _span(item.start, item.end, len(wire.strokes))
        request.items.add(start=start, end=end, text=check_text(item.text, "instruction"))
    if not 1 <= len(request.items) <= LIMITS.score_items:
        raise InvalidInput(
            f"there are {len(request.items)} items to score; give 1 to {LIMITS.score_items}"
        )
    return request


def choose(request: Message, config: Config) -> None:
    """Have the bundle answer that the client was told; each request has a field ``bundle``."""
    if config.bundle:
        name, _, version = config.bundle.partition("@")
        choice: pb.BundleChoice = request.bundle  # type: ignore[attr-defined]  # see above
        choice.name, choice.version = name, version


def check_size(request: Message) -> None:
    """Refuse a request beyond the limit of one message.

    Raises:
        InvalidInput: it is larger.
    """
    if (size := request.ByteSize()) > LIMITS.message_bytes:
        raise InvalidInput(
            f"the request has {size} bytes, the limit is {LIMITS.message_bytes}; split it"
        )


# ---- replies ---------------------------------------------------------------------------------


def plan_of(reply: pb.PlanResponse) -> Plan:
    """Read the reply of ``Plan``."""
    return codec.plan_from_wire(reply.plan)


def tree_of(reply: pb.AnnotateResponse) -> Plan:
    """Read the reply of ``Annotate``."""
    return codec.plan_from_wire(reply.tree)


def descriptions_of(reply: pb.DescribeResponse) -> list[Description]:
    """Read the reply of ``Describe``."""
    return [Description(d.text, d.score) for d in reply.descriptions]


# ---- checks ----------------------------------------------------------------------------------


def _drawing(value: DrawingLike) -> pb.Drawing:
    key_id = value.key_id if isinstance(value, Sketch) else ""
    return codec.drawing_to_wire(_as_drawing(value).check(), key_id)


def _canvas(value: DrawingLike) -> Drawing:
    return _as_drawing(value, "canvas").check(
        max_strokes=LIMITS.canvas_strokes, max_points=LIMITS.canvas_points, noun="canvas"
    )


def _as_drawing(value: DrawingLike, noun: str = "drawing") -> Drawing:
    if isinstance(value, Drawing):
        return value
    strokes: object = value.strokes if isinstance(value, Sketch) else value
    if isinstance(strokes, str | bytes) or not isinstance(strokes, Iterable):
        raise InvalidDrawing(
            f"the {noun} is of type {type(value).__name__}; give a Sketch, a Drawing or a list of "
            "(N, 2) arrays"
        )
    return Drawing.of(strokes)


def _subject(drawing: DrawingLike, subject: str | None) -> str:
    """What the caller says, else what the sketch knows, else "" (the service recognises it)."""
    if subject is None:
        return drawing.subject if isinstance(drawing, Sketch) else ""
    return check_text(subject, "subject") if subject else ""


def _parser(parser: Parser | None) -> pb.Parser.ValueType:
    if parser is None:
        return pb.PARSER_UNSPECIFIED
    if parser not in get_args(Parser):
        raise InvalidInput(f"parser is {parser!r}; give one of {', '.join(get_args(Parser))}")
    return pb.Parser.Value(f"PARSER_{parser.upper()}")


def _span(start: object, end: object, strokes: int) -> tuple[int, int]:
    first, last = _whole(start, "start", 0, strokes - 1), _whole(end, "end", 1, strokes)
    if first is None or last is None or first >= last:
        raise InvalidInput(
            f"[{start}, {end}) is no segment of {strokes} strokes; give 0 <= start < end"
        )
    return first, last


def _temperature(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InvalidInput(f"temperature is {value!r}; give a number above 0, up to {HOTTEST:g}")
    if not math.isfinite(value) or not 0 < value <= HOTTEST:
        raise InvalidInput(f"temperature is {value}; give a number above 0, up to {HOTTEST:g}")
    return float(value)


def _whole(value: object, name: str, low: int, high: int) -> int | None:
    if value is None:
        return None
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:  # type: ignore[call-overload]  # an int by now
        raise InvalidInput(f"{name} is {value!r}; give a whole number from {low} to {high}")
    return int(value)  # type: ignore[call-overload, no-any-return]  # an int by now
