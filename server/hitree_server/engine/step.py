"""What the parts of the engine hand to each other in one step.

Thousands are made a second: named tuples cost a fraction of frozen dataclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hitree.events import FinishReason
    from hitree_server.engine.sequence import EngineEvent, Floats, Integers, Sequence


class Step(NamedTuple):
    """What the scheduler decided for one tick of the engine, in the order it is applied."""

    number: int  # counts from 0
    parks: tuple[Sequence, ...]  # give their rows back and keep their state
    departures: tuple[Sequence, ...]  # give their rows back for good
    joins: tuple[Sequence, ...]  # get rows: fresh ones, or those they were parked with
    running: tuple[Sequence, ...]  # compute in this step: stays and joins
    ahead: bool = False  # only those who join compute, and the others right after it


class Piece(NamedTuple):
    """Points of one stroke, to be delivered."""

    positions: Floats  # (N, 2) units
    t_ms: Integers  # (N,) of pen time
    ends: int  # with the last of them: nothing, the stroke, or the leaf too


class End(NamedTuple):
    """How a drawing ended."""

    reason: FinishReason
    stroke_open: bool  # its last stroke is over too, and no piece says so


class Mark(NamedTuple):
    """What there is to tell of one sequence after a step."""

    sequence: Sequence
    pieces: list[Piece]  # points to deliver, stroke by stroke
    end: End | None  # None: it goes on


class Result(NamedTuple):
    """What the runner made of a step."""

    marks: tuple[Mark, ...]  # at most one a sequence
    broken: tuple[Sequence, ...]  # the graph made something that is not finite of them
    points: int  # made in this step, all sequences together
    drawn: int  # stroke-5 rows, those that are no points counted
    bucket: int  # rows that the device computed, the padding counted
    seconds: float  # that the device took


class Emission(NamedTuple):
    """Events for the reader of one sequence."""

    sequence: Sequence
    events: tuple[EngineEvent, ...]
