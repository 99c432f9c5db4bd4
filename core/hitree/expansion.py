"""Which expansion of a node to take: probable, sound, and together what its parent says.

The planner samples several ways to carry out an instruction and takes one of them. This is the
choice, without any model, so that plans are measured by the same rule by which they are served.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hitree.text import BOUNDARIES, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Floats = NDArray[np.float32]

# What these are worth, in nats a token.
AGREEMENT = 4.0  # with the other expansions, on what there is to draw
COHERENCE = 1.0  # of the steps together, with their parent
REDUNDANCY = 2.0  # of things that are drawn more than once
FEWEST_STEPS = 3  # of the root; fewer explain too little, unless there is no alternative
_JOINS = frozenset({"and", "with"})  # words between things that are drawn
_LINKS = BOUNDARIES | _JOINS | {"of", "to", "for"}  # words that end a noun phrase


class Expansion(Protocol):
    """What a node is carried out by, as a generator wrote it."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Child instructions in order; none: the node is a leaf."""

    @property
    def log_prob(self) -> float:
        """Per token."""


E = TypeVar("E", bound=Expansion)


def choose(
    sampled: Sequence[E],
    stack: tuple[str, ...],
    others: frozenset[str],
    embed: Callable[[Sequence[str]], Floats],
) -> E | None:
    """The best expansion of the node at the end of ``stack``, or None where it is a leaf.

    ``others`` are names that no step may add, see `other_subjects`; ``embed`` turns N texts into
    unit vectors (N, D).
    """
    inner = [one for one in sampled if one.texts]
    root = len(stack) == 1
    # The root is asked for a plan, so one that can be had is taken; others are what most say.
    if not inner or (not root and 2 * len(inner) < len(sampled)):
        return None
    sound = [one for one in inner if is_sound(one.texts, stack, others)]
    if not sound and not root:
        return None
    return _best(stack[-1], _prefer_long(sound or inner) if root else sound, embed)


def other_subjects(prompt: str, subject: str, subjects: Iterable[str]) -> frozenset[str]:
    """Subjects that neither the prompt nor its own subject names: no step may add them."""
    allowed = {*words(prompt), *words(subject)}
    return frozenset(s for s in subjects if s != subject and s not in allowed)


def _best(parent: str, expansions: list[E], embed: Callable[[Sequence[str]], Floats]) -> E:
    """The best expansion by log-probability, agreement, coherence and redundancy."""
    texts = sorted({text for one in expansions for text in one.texts})
    vectors = embed([parent, *texts])  # (1 + N, D)
    rows = {text: row for row, text in enumerate(texts, 1)}
    agreed = agreement([one.texts for one in expansions])

    def value(one: E, agreed: float) -> float:
        steps = vectors[[rows[text] for text in one.texts]]  # (K, D)
        fit = COHERENCE * coherence(steps, vectors[0]) + AGREEMENT * agreed
        return one.log_prob + fit - REDUNDANCY * redundancy(one.texts)

    values = [value(one, share) for one, share in zip(expansions, agreed, strict=True)]
    return expansions[int(np.argmax(values))]


def agreement(expansions: Sequence[Sequence[str]]) -> list[float]:
    """For each expansion the mean F1 of the things it draws with those that every one draws.

    What most of them draw is what the subject has: the choice of least expected loss, as in
    minimum Bayes risk decoding (Kumar & Byrne, 2004). By probability alone, the plainest wins.
    """
    sets = [frozenset(drawn(texts)) for texts in expansions]
    return [float(np.mean([2 * len(a & b) / max(len(a) + len(b), 1) for b in sets])) for a in sets]


def coherence(steps: Floats, parent: Floats) -> float:
    """Cosine of the sum of ``steps`` (K, D), unit vectors, with the vector (D,) of their parent."""
    together = steps.sum(axis=0)
    return float(together @ parent) / max(float(np.linalg.norm(together)), 1e-6)


def redundancy(texts: Sequence[str]) -> float:
    """The share of things that were said before: 0 for "add two eyes", "add a beak and a wing"."""
    found = drawn(texts)
    return 1 - len(set(found)) / len(found) if found else 0.0


def drawn(texts: Sequence[str]) -> list[str]:
    """What instructions draw, one after the other; see `things`."""
    return [thing for text in texts for thing in things(words(text))]


def things(text: Sequence[str]) -> list[str]:
    """What an instruction draws, singular: "add two legs and a foot on the left" -> leg, foot."""
    found = []
    place = False  # inside "on the left"
    for word, following in pairwise([*text, "and"]):
        place = word in BOUNDARIES - {"with"} or (place and word not in _JOINS)
        if following in _LINKS and not place and word not in _LINKS:
            found.append(word.removesuffix("s"))
    return found


def is_sound(texts: Sequence[str], stack: Sequence[str], others: frozenset[str]) -> bool:
    """Whether an expansion says something, once, and about this subject."""
    if len(set(texts)) < len(texts) or set(texts) & set(stack):
        return False
    for text in map(words, texts):
        if len(text) < 2 or _stammers(text) or others.intersection(text):
            return False
    return True


def _stammers(text: list[str]) -> bool:
    """Whether a word is said twice on end, or a thing twice: "two flippers and a flipper"."""
    found = things(text)
    return any(a == b for a, b in pairwise(text)) or len(set(found)) < len(found)


def _prefer_long(expansions: list[E]) -> list[E]:
    return [one for one in expansions if len(one.texts) >= FEWEST_STEPS] or expansions
