"""Bracketing: how well trees agree with the annotators' steps, and trees that know nothing.

Counted are spans of two or more strokes without the root, summed up over all drawings. Every tree
is pruned to as many nodes as the annotators' own, so that none gains by being larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hitree.prune import link, prune
from hitree.tree import Node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hitree.parse import Span
    from hitree_training.annotations import Step

Cutter = Callable[[int, int], list[int]]
"""Where a span ``[i, j)`` of two or more strokes is cut: places between i and j, ascending."""


@dataclass(frozen=True)
class Agreement:
    """Counts that add up over drawings."""

    matched: int = 0  # spans in both
    found: int = 0  # spans of the tree
    wanted: int = 0  # spans of the annotators

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.matched + other.matched, self.found + other.found, self.wanted + other.wanted
        )

    def figures(self) -> dict[str, float]:
        """Recall, precision and F1."""
        recall = self.matched / max(self.wanted, 1)
        precision = self.matched / max(self.found, 1)
        both = recall + precision
        return {
            "recall": recall,
            "precision": precision,
            "f1": 2 * recall * precision / both if both else 0.0,
        }


def agreement(root: Node, steps: Iterable[Step]) -> Agreement:
    """Compare a tree with the steps of an annotation."""
    whole = (root.start, root.end)
    found = {(node.start, node.end) for node in root.walk()} - {whole}
    wanted = {(step.start, step.end) for step in steps} - {whole}
    found = {(i, j) for i, j in found if (j or 0) - (i or 0) > 1}
    wanted = {(i, j) for i, j in wanted if j - i > 1}
    return Agreement(len(found & wanted), len(found), len(wanted))


def pruned(root: Node, nodes: int) -> Node:
    """The best tree of at most ``nodes`` nodes, however poor they are."""
    return prune(root, max_nodes=nodes, threshold=-1e3)


def flat(n: int, parts: int) -> Node:
    """The whole cut into ``parts`` equal parts, and no further."""
    cuts = sorted({round(k * n / parts) for k in range(parts + 1)})

    def cut(i: int, j: int) -> list[int]:
        return cuts[1:-1] if (i, j) == (0, n) else []

    return _grow(n, cut)


def trivial(n: int, seed: int) -> dict[str, Node]:
    """Trees over n strokes that look at nothing, by name; a node's score is minus its depth."""
    rng = np.random.default_rng(seed)
    return {
        "left_branching": _grow(n, lambda _, j: [j - 1]),
        "right_branching": _grow(n, lambda i, _: [i + 1]),
        "balanced": _grow(n, lambda i, j: [(i + j) // 2]),
        "random": _grow(n, lambda i, j: [int(rng.integers(i + 1, j))]),
        "flat_3": flat(n, 3),
        "flat_4": flat(n, 4),
    }


def oracle(n: int, steps: tuple[Step, ...]) -> Node:
    """A binary tree that holds every step, scored so that pruning finds them: the ceiling."""
    ends = [step.end for step in steps]

    def cut(i: int, j: int) -> list[int]:
        between = [end for end in ends if i < end < j]
        return [between[0] if between else i + 1]

    wanted = {(step.start, step.end) for step in steps}
    return _scored(_grow(n, cut), lambda node: float((node.start, node.end) in wanted))


def _grow(n: int, cut: Cutter) -> Node:
    """The tree that a cutter makes over n strokes, spans cut until nothing is left to cut."""
    nodes: list[Node] = []
    waiting: list[tuple[Span, int | None, int]] = [((0, n), None, 0)]
    while waiting:
        (i, j), parent, depth = waiting.pop()
        nodes.append(Node(len(nodes), parent, "", i, j, -float(depth)))
        places = cut(i, j) if j - i > 1 else []
        edges = [i, *places, j]
        parts = list(pairwise(edges)) if places else []
        waiting += [(part, len(nodes) - 1, depth + 1) for part in reversed(parts)]
    return link(nodes)


def _scored(root: Node, score: Callable[[Node], float]) -> Node:
    children = tuple(_scored(child, score) for child in root.children)
    return replace(root, score=score(root), children=children)
