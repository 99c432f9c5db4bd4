"""What the generator learns to expand: instruction stacks, and the steps below them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from hitree_training import data, instructions, wording
from hitree_training.describing import word_loss
from hitree_training.instructions import Expansion, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hitree.text import Vocabulary
    from hitree_training.models.generator import Generator

MIX = {"real": 0.25, "drawn": 0.5, "sampled": 0.25}  # drawn ones have the clearest steps
LEVELS = 4  # of a stack that are read: the root and the last three


class Expanding:
    """Instruction stacks and the steps below them."""

    def __init__(self, items: Sequence[Expansion], vocabulary: Vocabulary) -> None:
        self.items = items
        self.vocabulary = vocabulary
        self.vectors = data.token_vectors()
        groups = [(item.kind, item.subject) for item in items]
        counts = Counter(groups)
        share = [MIX[group[0]] / counts[group] for group in groups]
        inner = torch.tensor([bool(item.children) for item in items], dtype=torch.bool)
        self.inner, self.leaves = torch.tensor(share) * inner, torch.tensor(share) * ~inner

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` nodes with children, by weight."""
        return torch.multinomial(self.inner, size, replacement=True, generator=generator)

    def sample_leaves(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` leaves, by weight."""
        return torch.multinomial(self.leaves, size, replacement=True, generator=generator)

    def loss(self, model: Generator, index: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mean NLL of a word over the expansions at ``index``; roots are varied if seeded."""
        chosen = [self.items[i] for i in index.tolist()]
        if generator is not None:
            chosen = [vary(item, generator) for item in chosen]
        stacks = [item.stack for item in chosen]
        context = model.expand(*self.read(stacks), self.subject([item.subject for item in chosen]))
        return word_loss(model, context, [listing(c.children, self.vocabulary) for c in chosen])

    def read(self, stacks: Sequence[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
        """Token vectors (B, L, T, E) and mask (B, L, T) of stacks."""
        stacks = [(stack[0], *stack[1:][-(LEVELS - 1) :]) for stack in stacks]
        levels = max(map(len, stacks))
        texts = [text for stack in stacks for text in stack]
        vectors, mask = self.vectors.batch(texts)
        tokens = torch.zeros(len(stacks), levels, *vectors.shape[1:])
        masks = torch.zeros(len(stacks), levels, mask.shape[1])
        at = 0
        for b, stack in enumerate(stacks):
            tokens[b, : len(stack)] = torch.from_numpy(vectors[at : at + len(stack)])
            masks[b, : len(stack)] = torch.from_numpy(mask[at : at + len(stack)])
            at += len(stack)
        return tokens, masks

    def subject(self, names: Sequence[str]) -> Tensor:
        """The subjects' sentence vectors (B, E)."""
        known = {name: self.vectors.sentence(name) for name in set(names)}
        return torch.from_numpy(np.stack([known[name] for name in names]))


def vary(item: Expansion, generator: torch.Generator) -> Expansion:
    """Another wording of the same: the root as somebody would ask, or all mirrored."""
    root = instructions.vary_root(item.stack[0], item.subject, generator)
    stack, children = (root, *item.stack[1:]), item.children
    if torch.rand((), generator=generator) < 0.5:
        stack = tuple(map(wording.mirror, stack))
        children = tuple(map(wording.mirror, children))
    return Expansion(item.subject, stack, children, item.kind)
