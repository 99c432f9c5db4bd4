"""Wrong instructions that are hard to tell from the right one.

The same part with the opposite trait ("add two big ears", "add two small ears"), or another part
that the subject has. They are what a drawn segment is judged against.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hitree_training.annotations import Annotation, Step
    from hitree_training.data import Example

Trait = Literal["size", "length", "breadth", "shape", "line", "opening", "height", "side"]


@dataclass(frozen=True)
class Opposite:
    """A word and the one that takes its place to say the opposite."""

    trait: Trait
    word: str  # a word or a phrase, as a regular expression
    other: str


OPPOSITES = (
    Opposite("size", "big|large|bigger", "small"),
    Opposite("size", "huge", "tiny"),
    Opposite("size", "small|smaller|little|tiny", "big"),
    Opposite("length", "long|longer|tall", "short"),
    Opposite("length", "short|stubby", "long"),
    Opposite("breadth", "thin|narrow|slim", "wide"),
    Opposite("breadth", "thick|wide|fat|plump|chubby", "thin"),
    Opposite("shape", "rounded|round(?! to| the)", "pointed"),
    Opposite("shape", "pointed|pointy|sharp", "round"),
    Opposite("line", "curved|wavy|bent|curly|curled|hooked", "straight"),
    Opposite("line", "straight|flat", "curved"),
    Opposite("opening", "open", "closed"),
    Opposite("opening", "closed", "open"),
    Opposite("height", "up", "down"),
    Opposite("height", "down", "up"),
    Opposite("height", "raised", "lowered"),
    Opposite("height", "upper", "lower"),
    Opposite("height", "lower", "upper"),
    Opposite("height", "above", "below"),
    Opposite("height", "below|under", "above"),
    Opposite("side", "left", "right"),
    Opposite("side", "right", "left"),
)
PLACES = frozenset({"left", "right", "front", "back", "upper", "lower", "top", "bottom"})
SMALL = frozenset({"a", "an", "the", "two", "and", "of", "with"})


@dataclass(frozen=True)
class Foil:
    """A wrong instruction."""

    text: str
    kind: Literal["trait", "part"]
    trait: Trait | None = None  # which one is the opposite
    way: str = ""  # the word that says the opposite


@cache
def opposites(text: str) -> tuple[Foil, ...]:
    """The text with one of its traits turned into the opposite, a foil for every trait.

    A trait that the text names both ways ("one wing up and one down") has no opposite.

    >>> [foil.text for foil in opposites("add a long tail on the left")]
    ['add a short tail on the left', 'add a long tail on the right']
    """
    found: dict[Trait, Foil] = {}
    for opposite in OPPOSITES:
        pattern = rf"\b(?:{opposite.word})\b"
        both = any(
            other.trait == opposite.trait
            and other.other != opposite.other
            and re.search(rf"\b(?:{other.word})\b", text)
            for other in OPPOSITES
        )
        if both or not re.search(pattern, text):
            continue
        swapped = _articles(re.sub(pattern, opposite.other, text))
        found.setdefault(opposite.trait, Foil(swapped, "trait", opposite.trait, opposite.other))
    return tuple(found.values())


def _articles(text: str) -> str:
    """The text with "a" and "an" before the right words."""
    return re.sub(r"\ban? (?=(\w))", lambda m: "an " if m[1] in "aeiou" else "a ", text)


def things(parts: Iterable[str]) -> frozenset[str]:
    """The words that part labels name things by, in the singular: {"ear"} of "left ears"."""
    words = {word for part in parts for word in re.findall(r"[a-z]+", part.lower())}
    return frozenset(word.removesuffix("s") for word in words - PLACES - SMALL)


class Parts:
    """The steps of training drawings, by subject: what else could be drawn."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._steps: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
        known: dict[str, frozenset[str]] = defaultdict(frozenset)
        for example in examples:
            if example.annotation:
                known[example.subject] |= things(example.annotation.parts)
                for step in example.annotation.steps:
                    drawn = things(example.annotation.parts[step.start : step.end])
                    self._steps[example.subject].setdefault(step.text, drawn)
        for subject, steps in self._steps.items():  # and what the texts themselves name
            for text in steps:
                steps[text] |= things([text]) & known[subject]

    def others(self, subject: str, annotation: Annotation, step: Step) -> list[Foil]:
        """Steps of the subject that draw nothing of this step, nor of those before it."""
        before = things(annotation.parts[: step.end]) | things([step.text])
        return [
            Foil(text, "part")
            for text, drawn in self._steps[subject].items()
            if drawn and not before & drawn
        ]
