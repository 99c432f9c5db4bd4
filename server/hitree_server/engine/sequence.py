"""What the engine is asked to draw, and what it answers.

A stream is, for every leaf, `LeafStarted`, `PointsMade` and `StrokeEnded` in turns and
`LeafEnded`, and in the end `Ended` or `Broken`, after which nothing follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hitree.errors import InvalidInput
from hitree_server.engine import noise

if TYPE_CHECKING:
    from hitree.errors import HiTreeError
    from hitree.events import FinishReason, Timings

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


NO_ROWS: Floats = np.zeros((0, 5), np.float32)
NO_ENDS: Integers = np.zeros(0, np.int64)

# Whether a leaf ended with a recalled row.
NO_END, END, SAMPLED = 0, 1, 2  # no; yes; the reader cannot know: noise tells again


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf of a plan, ready to be drawn."""

    node: int  # id of the node; part of the noise key
    condition: Floats  # (C,)


@dataclass(frozen=True, eq=False)
class SequenceSpec:
    """One drawing to be made: a request, or one candidate of a request."""

    request_id: str  # of the request, for logs
    leaves: tuple[Leaf, ...]  # at least one, in drawing order
    seed: int  # 64 bits; the same seed gives the same drawing
    max_points: int  # points drawn in all, the canvas not counted
    max_points_leaf: int  # points drawn for one leaf
    temperature: float = 1.0
    candidate: int = 0  # part of the noise key
    prefix: Floats = field(default_factory=lambda: NO_ROWS)  # (P, 5) rows of the canvas
    first_stroke: int = 0  # strokes on the canvas already
    recalled: Floats = field(default_factory=lambda: NO_ROWS)  # (R, 5) rows after it
    recalled_ends: Integers = field(default_factory=lambda: NO_ENDS)  # (R,) see `SAMPLED`
    known: int = 0  # points that the reader has: they are drawn again and not delivered
    priority: int = 0  # higher goes first; one level outweighs ``settings.ageing`` seconds
    deadline: float | None = None  # seconds of ``time.monotonic``

    def check(self, condition: int) -> None:
        """Refuse what the engine cannot draw, for the engine's thread trusts its arrays.

        Raises:
            InvalidInput: the sequence may draw nothing, or a value or a shape is off.
        """
        _expect(bool(self.leaves), "a sequence has at least one leaf")
        _expect(min(self.max_points, self.max_points_leaf) >= 1, "budgets are at least 1 point")
        _expect(0 <= self.seed < 1 << 64, f"a seed is 0 to 2^64 - 1, not {self.seed}")
        _expect(0 < self.temperature < np.inf, f"no temperature: {self.temperature}")
        prefix = self.prefix
        _expect(prefix.ndim == 2 and prefix.shape[1] == 5, f"no (P, 5) prefix: {prefix.shape}")
        recalled, ends = self.recalled, self.recalled_ends
        _expect(recalled.shape == (len(ends), 5), f"no (R, 5) recalled rows: {recalled.shape}")
        _expect(len(ends) <= self.known <= self.max_points, f"{self.known} points are not known")
        for leaf in self.leaves:
            shape = leaf.condition.shape
            _expect(shape == (condition,), f"a condition has {condition} numbers, not {shape}")


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidInput(message)


class LeafStarted(NamedTuple):
    """A leaf begins."""

    leaf: int  # index in ``SequenceSpec.leaves``


class PointsMade(NamedTuple):
    """Points of one stroke, in order."""

    positions: Floats  # (N, 2) absolute units, on the grid of 1/4
    t_ms: Integers  # (N,) pen time since the drawing began, the canvas not counted
    stroke: int  # index in the drawing, the canvas counted
    leaf: int  # index in ``SequenceSpec.leaves``


class StrokeEnded(NamedTuple):
    """The pen lifts."""

    stroke: int  # index in the drawing, the canvas counted
    leaf: int  # index in ``SequenceSpec.leaves``


class LeafEnded(NamedTuple):
    """A leaf is drawn: strokes ``[start, end)``, the canvas counted."""

    leaf: int  # index in ``SequenceSpec.leaves``
    start: int
    end: int


class Ended(NamedTuple):
    """The drawing is done; the last event."""

    reason: FinishReason
    strokes: int  # drawn, the canvas not counted
    points: int  # drawn, the canvas not counted
    timings: Timings


class Broken(NamedTuple):
    """The drawing broke off; the last event."""

    error: HiTreeError


EngineEvent = LeafStarted | PointsMade | StrokeEnded | LeafEnded | Ended | Broken


class Phase(Enum):
    """Where an accepted sequence stands."""

    WAITING = "waiting"  # for a free row
    RUNNING = "running"  # owns a row
    PAUSED = "paused"  # its reader is slow; its state is parked and it owns no row
    OVER = "over"  # its terminal event was made


@dataclass(eq=False, slots=True)
class Sequence:
    """The scheduler's record of an accepted sequence."""

    spec: SequenceSpec
    number: int  # order of acceptance
    arrived: float  # seconds of the engine's clock
    phase: Phase = Phase.WAITING
    keys: tuple[int, ...] = ()  # of the noise, of every leaf, and one that is never used
    # What has been delivered:
    leaf: int = 0  # index of the leaf
    leaf_start: int = 0  # first stroke of that leaf
    leaf_told: bool = False  # the reader was told that it began
    leaf_over: bool = False  # all of it was delivered
    stroke: int = 0  # index of the stroke, the canvas counted
    points: int = 0  # those that the reader had already counted
    joined: float | None = None  # first time in the batch
    first_point: float | None = None  # when the first point was delivered
    snapshot: object | None = None  # what the slots keep of it while it is parked

    def __post_init__(self) -> None:
        spec = self.spec
        keys = (noise.key(spec.seed, spec.candidate, leaf.node) for leaf in spec.leaves)
        self.keys = (*keys, 0)
        self.stroke = self.leaf_start = spec.first_stroke

    @property
    def known(self) -> int:
        """Points that the reader has."""
        return max(self.points, self.spec.known)
