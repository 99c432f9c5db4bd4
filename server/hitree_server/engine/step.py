"""What the parts of the engine hand to each other in one step.

Thousands are made a second: named tuples cost a fraction of frozen dataclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hitree_server.engine.pens import Piece
    from hitree_server.engine.sequence import EngineEvent, Sequence


class Step(NamedTuple):
    """What the scheduler decided for one tick of the engine, in the order it is applied."""

    number: int  # counts from 0
    parks: tuple[Sequence, ...]  # give their rows back and keep their state
    departures: tuple[Sequence, ...]  # give their rows back for good
    turns: tuple[Sequence, ...]  # stay, and go on to ``sequence.leaf``
    joins: tuple[Sequence, ...]  # get rows: fresh ones, or those they were parked with
    running: tuple[Sequence, ...]  # compute in this step: stays and joins


class Mark(NamedTuple):
    """What happened to one sequence in a step that more than a buffered point came of."""

    sequence: Sequence
    pieces: tuple[Piece, ...]  # points to deliver, stroke by stroke
    stroke_over: bool  # after them the pen lifted, or was lifted because the leaf is over
    leaf_over: bool  # the segment ended, or its budget is spent
    exhausted: bool  # the sequence has its ``max_points``
    quiet: bool = False  # the reader knows all that


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
