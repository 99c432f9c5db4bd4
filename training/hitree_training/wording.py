"""Instructions by rule: from part labels, from a subject's name, and their mirror images."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from hitree.text import words
from hitree_training.annotations import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"antenna": "antennae", "body": "bodies", "foot": "feet", "tooth": "teeth"}
SIDES = {"left": "right", "right": "left"}
# However many strokes they take, there is one of each.
SINGLE = frozenset(
    words(
        "abdomen back beak belly body face head mane mouth neck nose shell snout tail thorax trunk"
    )
)
WINDOW = 3  # runs of one part that are drawn in one step, at most


def article(noun: str) -> str:
    """The noun with "a" or "an": "an owl"."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def root(subject: str) -> str:
    """The plainest instruction for a whole drawing: "draw an owl"."""
    return f"draw {article(subject)}"


def compose(parts: Sequence[str]) -> tuple[Step, ...]:
    """Steps from a part label per stroke: every run of one part becomes a step.

    >>> [step.text for step in compose(("body", "leg", "leg", "head"))]
    ['draw a body', 'add two legs', 'add a head']
    """
    return tuple(
        Step(start, end, f"{'add' if start else 'draw'} {things(parts[start:end])}")
        for start, end in _runs(parts)
    )


def windows(parts: Sequence[str]) -> tuple[Step, ...]:
    """Steps of one to `WINDOW` neighbouring runs, wherever they begin: they overlap.

    >>> [step.text for step in windows(("body", "leg", "leg"))]
    ['draw a body', 'draw a body and two legs', 'add two legs']
    """
    runs = _runs(parts)
    return tuple(
        Step(start, end, f"{'add' if start else 'draw'} {things(parts[start:end])}")
        for first, (start, _) in enumerate(runs)
        for _, end in runs[first : first + WINDOW]
    )


def things(parts: Sequence[str]) -> str:
    """The parts as one would say them, in order: "a body, two legs and a tail".

    A left and a right thing are two things; what is there only once is not counted.
    """
    counts = Counter(parts)
    pairs = {f"{side} {part.partition(' ')[2]}" for part in counts for side in _both(part, counts)}
    merged = Counter(part.partition(" ")[2] if part in pairs else part for part in parts)
    *lead, last = [_counted(part, count) for part, count in merged.items()]
    return f"{', '.join(lead)} and {last}" if lead else last


def _both(part: str, counts: Counter[str]) -> Sequence[str]:
    """Left and right, if ``part`` is the left one of a pair that is there."""
    side, _, thing = part.partition(" ")
    return tuple(SIDES) if side == "left" and f"right {thing}" in counts else ()


def _counted(part: str, count: int) -> str:
    # A compound ("head and neck") or a plural is one part in several strokes.
    compound = " and " in part or "," in part or part.endswith("s")
    if count == 1 or compound or part.split()[-1] in SINGLE:
        return article(part)
    return f"{_number(count)} {_plural(part)}"


def _runs(parts: Sequence[str]) -> list[tuple[int, int]]:
    """The spans of strokes that have one label."""
    ends = [0]
    for _, run in groupby(parts):
        ends.append(ends[-1] + len(list(run)))
    return list(pairwise(ends))


def mirror(text: str) -> str:
    """The instruction for the mirrored drawing: left and right change places."""
    return re.sub(r"\b(left|right)(?=(?:wards)?\b)", lambda m: SIDES[m.group()], text)


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else "many"


def _plural(noun: str) -> str:
    *lead, last = noun.split()
    return " ".join([*lead, PLURALS.get(last, f"{last}s")])
