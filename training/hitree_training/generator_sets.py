"""What the generator is trained on: annotated drawings, labelled ones, and plans.

Drawings with part labels only, which nobody annotated, widen what is described; inferred trees
widen what is expanded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hitree.text import Vocabulary
from hitree_training import data, instructions, wording
from hitree_training.describing import Describing, labels
from hitree_training.expanding import Expanding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from hitree_training.data import Example
    from hitree_training.instructions import Expansion
    from hitree_training.models.generator import Generator

ROOT_WEIGHT = 0.5  # of sentences for whole drawings in the loss
RULE_WEIGHT = 0.3  # of texts made from part labels
PLAN_WEIGHT = 2.0  # of expansions, which have their turn less often
LEAF_WEIGHT = 0.2  # of "it is a leaf" beside them: easily learnt
WIDER = 4  # annotated drawings of a batch for one that has only part labels
PLAN_EVERY = 3  # steps; plans are long, so a large batch at times costs less than small ones always
MIN_COUNT = 2  # times that a word must occur to be learnt


@dataclass(frozen=True)
class Sets:
    """What is trained on, and what it is judged by."""

    subjects: list[str]
    data_hash: str  # of the annotated drawings
    vocabulary: Vocabulary
    annotated: Describing
    labelled: Describing | None  # drawings with part labels only; the built-in set has none
    plans: Expanding
    held_out: Describing
    held_out_plans: Expanding

    @classmethod
    def read(cls, folder: Path | None, trees: Path | None) -> Self:
        """Read them from a data folder and a file of inferred trees.

        Raises:
            DataError: nothing is annotated.
        """
        examples = data.load(folder, splits=("train",))
        noted = annotated_of(examples, folder, "train")
        labelled = [e for e in examples if labels(e) and not e.annotation]
        held_out = annotated(folder, ("real", "drawn"), "valid")
        inferred = instructions.read_trees(trees) if trees else []
        vocabulary = vocabulary_of([*noted, *labelled], inferred)
        return cls(
            subjects=sorted({e.subject for e in noted}),
            data_hash=data.data_hash(noted),
            vocabulary=vocabulary,
            annotated=Describing(noted, vocabulary, "reading annotated drawings"),
            labelled=Describing(labelled, vocabulary, "reading labels") if labelled else None,
            plans=Expanding(instructions.expansions(noted) + inferred, vocabulary),
            held_out=Describing(held_out, vocabulary, "reading held-out drawings"),
            held_out_plans=Expanding(instructions.expansions(held_out), vocabulary),
        )

    def loss(self, model: Generator, batch: int, step: int, generator: torch.Generator) -> Tensor:
        """What is to be made small: the weighted losses of one random batch."""
        seen = self.annotated.losses(model, self.annotated.sample(batch, generator), generator)
        total = seen.step + ROOT_WEIGHT * seen.root + RULE_WEIGHT * seen.rule
        if self.labelled:
            wider = self.labelled.sample(batch // WIDER, generator)
            total = total + RULE_WEIGHT * self.labelled.losses(model, wider, generator).rule
        if step % PLAN_EVERY == 0:
            inner = self.plans.sample(batch, generator)
            leaves = self.plans.sample_leaves(batch // 2, generator)
            plan = self.plans.loss(model, inner, generator)
            plan = plan + LEAF_WEIGHT * self.plans.loss(model, leaves, generator)
            total = total + PLAN_WEIGHT * plan
        return total


def annotated(folder: Path | None, kinds: tuple[data.Kind, ...], split: str) -> list[Example]:
    """The annotated drawings of a split.

    Raises:
        DataError: there are none.
    """
    return annotated_of(data.load(folder, kinds=kinds, splits=(split,)), folder, split)


def annotated_of(examples: Sequence[Example], folder: Path | None, split: str) -> list[Example]:
    """Those of ``examples``, from a folder and split, that are annotated.

    Raises:
        DataError: there are none.
    """
    found = [e for e in examples if e.annotation]
    if not found:
        raise data.DataError(f"no {split} drawing in {folder or data.BUILTIN} is annotated")
    return found


def vocabulary_of(examples: Sequence[Example], trees: Sequence[Expansion]) -> Vocabulary:
    """The words of all texts and of their mirror images."""
    notes = [e.annotation for e in examples if e.annotation]
    texts = [text for note in notes for text in (note.root, *(step.text for step in note.steps))]
    texts += [step.text for e in examples for step in wording.compose(labels(e))]
    texts += [child for tree in trees for child in tree.children]
    return Vocabulary.of([*texts, *map(wording.mirror, texts)], MIN_COUNT)
