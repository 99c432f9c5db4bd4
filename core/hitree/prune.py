"""Pruning: the best small tree, with any number of children, within a binary one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hitree.tree import Node

Floats = NDArray[np.float32]

LEAST = 3  # nodes: nobody draws in one step what has several strokes


def link(nodes: list[Node]) -> Node:
    """Set the children of nodes given in preorder; `tree.build` without its limit on size."""
    children: list[list[Node]] = [[] for _ in nodes]
    for node in reversed(nodes):
        linked = replace(node, children=tuple(reversed(children[node.id])))
        if node.parent is not None:
            children[node.parent].append(linked)
    return linked


def prune(root: Node, *, max_nodes: int, threshold: float, least: int = LEAST) -> Node:
    """The best small tree within a tree: keeps the nodes that are worth it, at most ``max_nodes``.

    A node may be kept, be kept as a leaf, or be left out so that its children become its parent's;
    children go on partitioning their parent's strokes. Of all such trees this is the one with the
    highest sum of ``score - threshold`` over its nodes below the root, by dynamic programming. At
    least ``least`` nodes are kept, however little they are worth, where the tree has so many and
    ``max_nodes`` allows it.
    """
    nodes = _preorder(root)
    plans: dict[int, _Choice] = {}
    for node in reversed(nodes):
        plans[node.id] = _Choice.of(
            node, [plans[c.id] for c in node.children], max_nodes, threshold
        )
    kept: list[Node] = []
    inside = plans[root.id].inside
    worth = inside[:max_nodes].copy()  # by how many nodes are below the root
    if len(worth) >= least:
        worth[: least - 1] = -np.inf
    count = int(np.argmax(worth))
    _keep(kept, plans, root, None, count)
    return link(kept)


@dataclass(frozen=True, eq=False)
class _Choice:
    """The best values of a subtree, by how many of its nodes are kept."""

    inside: Floats  # [k]: the node itself aside, k nodes below it; [0] is a leaf
    forest: Floats  # [k]: k nodes in all, which cover its strokes
    joins: tuple[Floats, ...]  # forests of the first 1, 2, … children joined

    @classmethod
    def of(cls, node: Node, below: list[_Choice], max_nodes: int, threshold: float) -> _Choice:
        joins: list[Floats] = []
        for choice in below:
            joins.append(_join(joins[-1], choice.forest, max_nodes) if joins else choice.forest)
        covers = joins[-1] if joins else np.zeros(0, np.float32)
        inside = covers.copy() if joins else np.zeros(1, np.float32)
        inside[0] = 0.0
        gain = (node.score or 0.0) - threshold
        forest = np.full(min(len(inside), max_nodes) + 1, -np.inf, np.float32)
        forest[1:] = inside[: len(forest) - 1] + np.float32(gain)
        forest[: len(covers)] = np.maximum(forest[: len(covers)], covers[: len(forest)])
        return cls(inside, forest, tuple(joins))


def _join(left: Floats, right: Floats, max_nodes: int) -> Floats:
    """The best sums over both for every total count."""
    joined = np.full(min(len(left) + len(right) - 1, max_nodes + 1), -np.inf, np.float32)
    for count, value in enumerate(left[: len(joined)]):
        reach = right[: len(joined) - count]
        part = joined[count : count + len(reach)]
        np.maximum(part, value + reach, out=part)
    return joined


def _keep(
    kept: list[Node], plans: dict[int, _Choice], root: Node, parent: int | None, count: int
) -> None:
    """Write down, in preorder, the nodes that gave the best value with ``count`` below ``root``."""
    waiting = [(root, parent, count, True)]
    while waiting:
        node, above, below, keep = waiting.pop()
        if keep:
            kept.append(replace(node, id=len(kept), parent=above, children=()))
            above = kept[-1].id
        if below:
            shares = _shares(node, plans, below)
            children = list(zip(node.children, shares, strict=True))
            waiting += [_decide(plans, child, above, share) for child, share in reversed(children)]


def _shares(node: Node, plans: dict[int, _Choice], count: int) -> list[int]:
    """How many of ``count`` kept nodes lie in each child."""
    joins = plans[node.id].joins
    shares = []
    for index in range(len(node.children) - 1, 0, -1):
        left, right = joins[index - 1], plans[node.children[index].id].forest
        low, high = max(0, count - len(left) + 1), min(len(right) - 1, count)
        take = np.arange(low, high + 1)
        shares.append(int(take[np.argmax(left[count - take] + right[take])]))
        count -= shares[-1]
    return [count, *reversed(shares)]


def _decide(
    plans: dict[int, _Choice], child: Node, above: int | None, share: int
) -> tuple[Node, int | None, int, bool]:
    """Whether a child that holds ``share`` kept nodes is one of them."""
    covers = plans[child.id].joins[-1] if child.children else np.zeros(0, np.float32)
    left_out = share < len(covers) and covers[share] == plans[child.id].forest[share]
    return (child, above, share, False) if left_out else (child, above, share - 1, True)


def _preorder(root: Node) -> list[Node]:
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += reversed(node.children)
    return found
