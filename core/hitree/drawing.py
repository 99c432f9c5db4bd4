"""Drawings: ordered strokes in a 256 x 256 frame, origin top left, x right, y down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hitree.errors import (
    EmptyDrawing,
    InvalidDrawing,
    NotFinite,
    OutOfFrame,
    SinglePoint,
    TooManyPoints,
    TooManyStrokes,
)
from hitree.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FRAME = 256  # units, both ways
CENTRE = FRAME / 2

Stroke = NDArray[np.float32]
"""A polyline: (N, 2) float32, in units of the frame. One point is a dot."""


@dataclass(frozen=True, eq=False, slots=True)
class Drawing:
    """An ordered run of strokes."""

    strokes: tuple[Stroke, ...]  # each (N, 2) float32, N >= 1, in units of the frame

    @classmethod
    def of(cls, strokes: Iterable[object]) -> Drawing:
        """Build a drawing from anything that is made of (N, 2) numbers.

        Raises:
            InvalidDrawing: a stroke is not an (N, 2) array of numbers.
        """
        return cls(tuple(as_stroke(each, f"stroke {index}") for index, each in enumerate(strokes)))

    @property
    def points(self) -> int:
        """How many points all strokes have together."""
        return sum(len(stroke) for stroke in self.strokes)

    def slice(self, start: int, end: int) -> Drawing:
        """The segment ``[start, end)`` as a drawing of its own."""
        return Drawing(self.strokes[start:end])

    def check(
        self,
        *,
        max_strokes: int = LIMITS.drawing_strokes,
        max_points: int = LIMITS.drawing_points,
        noun: str = "drawing",
    ) -> Drawing:
        """Refuse what cannot be worked on; return the drawing itself.

        Raises:
            EmptyDrawing, SinglePoint, TooManyStrokes, TooManyPoints, NotFinite, OutOfFrame.
        """
        _check_size(self, max_strokes, max_points, noun)
        for index, stroke in enumerate(self.strokes):
            if not len(stroke):
                raise EmptyDrawing(f"stroke {index} of the {noun} has no points; leave it out")
            if not np.isfinite(stroke).all():
                raise NotFinite(
                    f"stroke {index} of the {noun} has a coordinate that is NaN or infinite; "
                    "send finite numbers"
                )
            low, high = -LIMITS.frame_margin, FRAME + LIMITS.frame_margin
            if stroke.min() < low or stroke.max() > high:
                raise OutOfFrame(
                    f"stroke {index} of the {noun} reaches from {stroke.min()} to "
                    f"{stroke.max()}; the frame is 0 to {FRAME} and coordinates may lie "
                    f"between {low} and {high}; scale the drawing into the frame"
                )
        return self


def as_stroke(value: object, noun: str) -> Stroke:
    """Turn (N, 2) numbers into a stroke; ``noun`` names it in errors ("stroke 3").

    Raises:
        InvalidDrawing, EmptyDrawing: it is something else, or has no points.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as exc:  # points of different lengths
        raise InvalidDrawing(f"{noun} is not (N, 2) numbers; send a list of [x, y] pairs") from exc
    if array.size == 0:
        raise EmptyDrawing(f"{noun} has no points; leave empty strokes out")
    if array.dtype.kind not in "iuf":  # text would be converted, "1" to 1
        raise InvalidDrawing(f"{noun} is not made of numbers; send a list of [x, y] pairs")
    if array.ndim != 2 or array.shape[1] != 2:
        raise InvalidDrawing(
            f"{noun} has shape {array.shape}; expected (N, 2): a list of [x, y] pairs"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: see check
        return array.astype(np.float32, copy=False)


def check_counts(
    strokes: int, points: Iterable[int], *, max_strokes: int, max_points: int, noun: str
) -> None:
    """Refuse what is too large; ``points`` are those of each stroke, not asked for too many.

    Raises:
        TooManyStrokes, TooManyPoints.
    """
    if strokes > max_strokes:
        raise TooManyStrokes(
            f"the {noun} has {strokes} strokes, the limit is {max_strokes}; send fewer"
        )
    if (count := sum(points)) > max_points:
        raise TooManyPoints(
            f"the {noun} has {count} points, the limit is {max_points}; simplify its strokes "
            "(hitree.quickdraw.simplify)"
        )


def _check_size(drawing: Drawing, max_strokes: int, max_points: int, noun: str) -> None:
    if not drawing.strokes:
        raise EmptyDrawing(f"the {noun} has no strokes; send at least one")
    check_counts(
        len(drawing.strokes),
        map(len, drawing.strokes),
        max_strokes=max_strokes,
        max_points=max_points,
        noun=noun,
    )
    if drawing.points == 1:
        raise SinglePoint(f"the {noun} is one single point; send at least two points")


def bounds(strokes: Sequence[Stroke]) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) around the strokes, in units."""
    points = np.concatenate(strokes)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
