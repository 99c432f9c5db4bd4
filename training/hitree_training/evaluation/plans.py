"""How good plans are, by their words: whether they repeat themselves, and whether they leave
something out that nearly every drawing of the subject has.

What a subject has is read from annotated training drawings: parts, words that part labels end with,
that are named in the steps of at least `MOST` of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: JSON

import numpy as np
import torch

from hitree.telling import thing
from hitree.text import words
from hitree_training import decode, instructions, wording
from hitree_training.evaluation.planned import TEMPERATURE, TOP_K, WORDS
from hitree_training.expanding import Expanding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hitree.text import Vocabulary
    from hitree_training.data import Example
    from hitree_training.evaluation.planned import Planning
    from hitree_training.models.generator import Generator

MOST = 0.8  # share of a subject's drawings
SAMPLED = 24  # plans of each subject, before any choice: repeats are rare, few samples show none
CHOSEN = 5  # plans of each subject as a user gets them
NAMED = 10  # drawings in which a word must end a part label to be a part's name

Plan = tuple[str, tuple[str, ...]]  # a subject, and the steps of a plan for it


@dataclass(frozen=True)
class Usual:
    """What annotated drawings say of a subject's parts."""

    parts: dict[str, frozenset[str]]  # by subject: what at least `MOST` of its drawings have
    share: float  # of the drawings that have all of their subject's: no plan need do better

    @classmethod
    def of(cls, train: Iterable[Example]) -> Usual:
        """Read the annotated ones of some drawings."""
        noted = [e for e in train if e.annotation]
        named = Counter(one for e in noted for one in _names(e))
        every = {one for one, count in named.items() if count >= NAMED}
        said = [(e.subject, mentioned(_texts(e), every)) for e in noted]
        drawings = Counter(subject for subject, _ in said)
        counts = Counter((subject, part) for subject, parts in said for part in parts)
        parts = {
            subject: frozenset(
                part for (s, part), n in counts.items() if s == subject and n >= MOST * total
            )
            for subject, total in drawings.items()
        }
        return cls(parts, float(np.mean([parts[subject] <= found for subject, found in said])))


def measure(
    planning: Planning, subjects: Sequence[str], train: Sequence[Example], seed: int = 0
) -> dict[str, Any]:
    """Figures of sampled plans for "draw a {subject}", and of those that a user gets."""
    usual = Usual.of(train)
    chosen = [(r.subject, r.steps) for r in planning.plans(subjects, CHOSEN, seed)]
    raw = sampled(planning.generator, planning.vocabulary, subjects, seed)
    return {
        "seed": seed,
        "sampled": {**figures(raw), **whole(raw, usual.parts)},
        "chosen": {**figures(chosen), **whole(chosen, usual.parts)},
        "annotated_whole": usual.share,
        "usual": {subject: sorted(parts) for subject, parts in usual.parts.items()},
    }


@torch.inference_mode()
def sampled(
    generator: Generator, vocabulary: Vocabulary, subjects: Sequence[str], seed: int
) -> list[Plan]:
    """`SAMPLED` plans of each subject, before any ranking."""
    reader = Expanding([], vocabulary)
    asked = [subject for subject in subjects for _ in range(SAMPLED)]
    stacks = reader.read([(wording.root(subject),) for subject in asked])
    found = decode.sample(
        generator.step,
        generator.expand(*stacks, reader.subject(asked)),
        limit=WORDS,
        top_k=TOP_K,
        temperature=TEMPERATURE,
        generator=torch.Generator().manual_seed(seed),
    )
    made = [instructions.steps(one.ids, vocabulary) for one in found]
    return list(zip(asked, made, strict=True))


def figures(plans: Sequence[Plan]) -> dict[str, float]:
    """How long plans are, and how often they say something twice."""
    steps = [made for _, made in plans]
    return {
        "plans": len(plans),
        "steps": float(np.mean([len(made) for made in steps])),
        "three_or_more_steps": float(np.mean([len(made) >= 3 for made in steps])),
        "says_a_step_twice": float(np.mean([len(set(made)) < len(made) for made in steps])),
        "repeats_but_for_the_verb": float(np.mean([repeats(made) for made in steps])),
        "different": len(set(plans)) / len(plans),
    }


def repeats(steps: Sequence[str]) -> bool:
    """Whether two steps differ in their first word at most: "add two eyes", "put two eyes"."""
    return len(set(map(thing, steps))) < len(steps)


def whole(plans: Sequence[Plan], usual: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """The share of plans with all that is usual, and what is missing most often."""
    missing = [(s, usual[s] - mentioned(steps, usual[s])) for s, steps in plans if s in usual]
    lost = Counter(f"{subject}: {part}" for subject, parts in missing for part in parts)
    return {
        "whole": float(np.mean([not parts for _, parts in missing])),
        "missing": dict(lost.most_common(10)),
    }


def mentioned(texts: Sequence[str], parts: Iterable[str]) -> frozenset[str]:
    """Those of ``parts``, singular words, that the texts name: once or many."""
    found = {singular(word) for text in texts for word in words(text)}
    return frozenset(parts) & found


def singular(word: str) -> str:
    """The word for one of it: legs, leg; antennae, antenna."""
    for one, many in wording.PLURALS.items():
        if word == many:
            return one
    return word.removesuffix("s")


def _texts(example: Example) -> list[str]:
    return [step.text for step in example.annotation.steps] if example.annotation else []


def _names(example: Example) -> set[str]:
    """The parts that labels end with: "big left ear" is an ear."""
    parts = example.annotation.parts if example.annotation else ()
    return {singular(words(part)[-1]) for part in parts if words(part)}
