"""Instructions by rule: from part labels, from a subject's name, and their mirror images."""

from __future__ import annotations

import re
from itertools import groupby

from hitree_training.annotations import Step

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"antenna": "antennae", "body": "bodies", "foot": "feet", "tooth": "teeth"}
SIDES = {"left": "right", "right": "left"}


def article(noun: str) -> str:
    """The noun with "a" or "an": "an owl"."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def root(subject: str) -> str:
    """The plainest instruction for a whole drawing: "draw an owl"."""
    return f"draw {article(subject)}"


def compose(parts: tuple[str, ...]) -> tuple[Step, ...]:
    """Steps from a part label per stroke: every run of one part becomes a step.

    >>> [step.text for step in compose(("body", "leg", "leg", "head"))]
    ['draw a body', 'add two legs', 'add a head']
    """
    steps: list[Step] = []
    at = 0
    for part, run in groupby(parts):
        size = len(list(run))
        # A compound ("head and neck") or a plural is one part in several strokes.
        whole = size == 1 or " and " in part or "," in part or part.endswith("s")
        what = article(part) if whole else f"{_number(size)} {_plural(part)}"
        steps.append(Step(at, at + size, f"{'add' if steps else 'draw'} {what}"))
        at += size
    return tuple(steps)


def mirror(text: str) -> str:
    """The instruction for the mirrored drawing: left and right change places."""
    return re.sub(r"\b(left|right)(?=(?:wards)?\b)", lambda m: SIDES[m.group()], text)


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else "many"


def _plural(noun: str) -> str:
    *lead, last = noun.split()
    return " ".join([*lead, PLURALS.get(last, f"{last}s")])
