"""Plans as a user gets them, made with the networks: the best of several sampled expansions.

What is sampled, and by which rule (`hitree.expansion`) one is taken, is as in serving; steps are
not expanded further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import track

from hitree.expansion import choose, other_subjects
from hitree_training import decode, expanding, instructions, wording
from hitree_training.pairs import token_batch
from hitree_training.sample import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree.expansion import Floats
    from hitree.text import Vocabulary
    from hitree_training.models.generator import Generator
    from hitree_training.models.scorer import Scorer

EXPANSIONS = 24  # of which one is taken
TEMPERATURE = 0.7
TOP_K = 20  # words that are sampled from
WORDS = 80  # of an expansion at most


@dataclass(frozen=True)
class Expansion:
    """A plan that was sampled; a `hitree.expansion.Expansion`."""

    texts: tuple[str, ...]  # its steps
    log_prob: float  # mean of a word


@dataclass(frozen=True)
class Planning:
    """What makes plans: a generator that writes steps, a scorer that tells how they cohere."""

    generator: Generator
    vocabulary: Vocabulary
    scorer: Scorer

    def embed(self, texts: Sequence[str]) -> Floats:
        """Texts in the scorer's space: (N, D), unit norm."""
        found: Floats = self.scorer.texts(*token_batch(texts)).numpy()
        return found

    @torch.inference_mode()
    def plans(self, subjects: Sequence[str], count: int, seed: int) -> list[Request]:
        """``count`` plans for "draw a {subject}" of each subject, all of a subject on end."""
        asked = [subject for subject in subjects for _ in range(EXPANSIONS)]
        reader = expanding.Expanding([], self.vocabulary)
        stacks = reader.read([(wording.root(subject),) for subject in asked])
        context = self.generator.expand(*stacks, reader.subject(asked))
        random = torch.Generator().manual_seed(seed)
        rounds = track(range(count), "planning", console=Console(stderr=True), transient=True)
        made = [self._round(context, subjects, random) for _ in rounds]
        return [one[index] for index in range(len(subjects)) for one in made]

    def _round(
        self, context: torch.Tensor, subjects: Sequence[str], random: torch.Generator
    ) -> list[Request]:
        """One plan for each subject."""
        sampled = decode.sample(
            self.generator.step,
            context,
            limit=WORDS,
            top_k=TOP_K,
            temperature=TEMPERATURE,
            generator=random,
        )
        expansions = [
            Expansion(instructions.steps(one.ids, self.vocabulary), one.mean) for one in sampled
        ]
        return [
            self._best(subject, subjects, expansions[index * EXPANSIONS :][:EXPANSIONS])
            for index, subject in enumerate(subjects)
        ]

    def _best(
        self, subject: str, subjects: Sequence[str], expansions: Sequence[Expansion]
    ) -> Request:
        root = wording.root(subject)
        others = other_subjects(root, subject, subjects)
        best = choose(expansions, (root,), others, self.embed)
        return Request(subject, root, best.texts if best else ())
