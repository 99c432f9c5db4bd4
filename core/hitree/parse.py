"""Parsing: the binary instruction tree that explains a drawing best.

A `SegmentScorer` says how well each segment's own best instruction fits it. A split of ``[i, j)``
at ``k`` scores the fit of its halves plus its *coherence*: how well the instructions of the halves
together explain the strokes of the whole. Three parsers maximise the sum of split scores:

* `greedy` (the talk's): from the whole downwards, the best split of each segment by itself.
* `cky`: the best tree there is, by dynamic programming over all O(n^2) segments.
* `bottom_up`: from single strokes upwards, the best merge of two neighbours at a time.

They return nodes without texts whose ``score`` is the segment's value; `prune` makes small trees
with any number of children of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hitree.errors import InvalidDrawing
from hitree.tree import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Floats = NDArray[np.float32]
Spans = NDArray[np.int64]
Span = tuple[int, int]

CKY_LEAVES = 64  # beyond, `bottom_up` merges strokes until so many units are left


@dataclass(frozen=True, eq=False)
class Fits:
    """What is known about S segments, each under its own best instruction."""

    fit: Floats  # (S,) how well the instruction fits, -1 to 1
    likelihood: Floats  # (S,) mean log-probability of the instruction's words, 0 where not known
    segments: Floats  # (S, D) embeddings of the strokes, unit norm
    texts: Floats  # (S, D) embeddings of the instructions, unit norm


class SegmentScorer(Protocol):
    """Scores segments of one drawing."""

    def spans(self, spans: Spans) -> Fits:
        """Score the segments ``spans`` (S, 2), rows ``[start, end)``, S >= 1."""


@dataclass(frozen=True)
class Weights:
    """What counts how much in the value of a segment and the score of a split."""

    fit: float = 1.0
    likelihood: float = 0.2
    coherence: float = 0.5


DEFAULT = Weights()


def greedy(n: int, scores: SegmentScorer, weights: Weights = DEFAULT) -> Node:
    """Split the whole, then each half, at its best place; n >= 1 strokes."""
    table = _Table(n, scores, weights)
    splits: dict[Span, int] = {}
    level = [(0, n)]
    while level := [(i, j) for i, j in level if j - i > 1]:
        table.ask((half for i, j in level for k in range(i + 1, j) for half in ((i, k), (k, j))))
        for i, j in level:
            splits[i, j] = i + 1 + int(np.argmax(table.split_scores(i, j)))
        level = [half for i, j in level for half in ((i, splits[i, j]), (splits[i, j], j))]
    return table.tree(splits)


def cky(n: int, scores: SegmentScorer, weights: Weights = DEFAULT) -> Node:
    """The binary tree with the highest sum of split scores; n >= 1 strokes.

    Drawings of more than `CKY_LEAVES` strokes are first merged bottom up to so many units.
    """
    table = _Table(n, scores, weights)
    splits: dict[Span, int] = {}
    cuts = _merge(table, splits, leave=CKY_LEAVES)
    units = len(cuts) - 1
    table.ask((cuts[a], cuts[b]) for a in range(units) for b in range(a + 1, units + 1))
    best = np.zeros((units + 1, units + 1), np.float32)  # sum of split scores below a segment
    for width in range(2, units + 1):
        for a in range(units - width + 1):
            b = a + width
            inner = np.arange(a + 1, b)
            total = table.split_scores(cuts[a], cuts[b], [cuts[c] for c in inner])
            total = total + best[a, inner] + best[inner, b]
            at = int(np.argmax(total))
            best[a, b], splits[cuts[a], cuts[b]] = total[at], cuts[inner[at]]
    return table.tree(splits)


def bottom_up(n: int, scores: SegmentScorer, weights: Weights = DEFAULT) -> Node:
    """Merge the two neighbours whose union scores best until one is left; n >= 1 strokes."""
    table = _Table(n, scores, weights)
    splits: dict[Span, int] = {}
    _merge(table, splits, leave=1)
    return table.tree(splits)


PARSERS: dict[str, Callable[[int, SegmentScorer, Weights], Node]] = {
    "greedy": greedy,
    "cky": cky,
    "bottom_up": bottom_up,
}
"""The parsers by name."""


def _merge(table: _Table, splits: dict[Span, int], leave: int) -> list[int]:
    """Merge single strokes until ``leave`` units are left; return the cuts between units."""
    cuts = list(range(table.n + 1))
    if table.n <= leave:
        return cuts
    table.ask((i, j) for width in (1, 2) for i, j in zip(cuts, cuts[width:], strict=False))
    gains = [_gain(table, cuts, at) for at in range(len(cuts) - 2)]
    while len(cuts) - 1 > leave:
        at = int(np.argmax(gains))
        splits[cuts[at], cuts[at + 2]] = cuts[at + 1]
        del cuts[at + 1], gains[at]
        changed = [place for place in (at - 1, at) if 0 <= place < len(gains)]
        table.ask((cuts[place], cuts[place + 2]) for place in changed)
        for place in changed:
            gains[place] = _gain(table, cuts, place)
    return cuts


def _gain(table: _Table, cuts: list[int], at: int) -> float:
    """What merging the units on both sides of cut ``at + 1`` is worth."""
    i, k, j = cuts[at : at + 3]
    return table.value(i, j) + float(table.coherence(i, j, [k])[0])


class _Table:
    """What was asked of the scorer so far, so that no segment is scored twice."""

    def __init__(self, n: int, scores: SegmentScorer, weights: Weights) -> None:
        if n < 1:
            raise InvalidDrawing(f"a drawing of {n} strokes has no tree; send at least one stroke")
        self.n = n
        self._scores = scores
        self._weights = weights
        self._rows: dict[Span, int] = {}
        self._values: list[float] = []
        self._segments: list[Floats] = []  # (D,) each
        self._texts: list[Floats] = []
        self.ask([(0, n)])

    def ask(self, spans: Iterable[Span]) -> None:
        """Score the segments that are new, in one batch."""
        fresh = [span for span in dict.fromkeys(spans) if span not in self._rows]
        if not fresh:
            return
        fits = self._scores.spans(np.array(fresh, np.int64))
        values = self._weights.fit * fits.fit + self._weights.likelihood * fits.likelihood
        self._rows.update(zip(fresh, range(len(self._values), 10**9), strict=False))
        self._values.extend(values.tolist())
        self._segments.extend(fits.segments)
        self._texts.extend(fits.texts)

    def value(self, i: int, j: int) -> float:
        return self._values[self._rows[i, j]]

    def split_scores(self, i: int, j: int, at: list[int] | None = None) -> Floats:
        """The scores of splits of ``[i, j)`` at each of ``at``, by default everywhere."""
        places = list(range(i + 1, j)) if at is None else at
        halves = [self.value(i, k) + self.value(k, j) for k in places]
        return np.array(halves, np.float32) + self.coherence(i, j, places)

    def coherence(self, i: int, j: int, at: list[int]) -> Floats:
        """How well the halves' instructions together explain the whole, for each split."""
        left = np.stack([self._texts[self._rows[i, k]] for k in at])
        right = np.stack([self._texts[self._rows[k, j]] for k in at])
        both = left + right  # (K, D)
        both = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
        weighted: Floats = self._weights.coherence * (both @ self._segments[self._rows[i, j]])
        return weighted

    def tree(self, splits: dict[Span, int]) -> Node:
        nodes: list[Node] = []
        waiting: list[tuple[int, int, int | None]] = [(0, self.n, None)]
        while waiting:  # a stack, not recursion: a drawing may have 512 strokes
            i, j, parent = waiting.pop()
            nodes.append(Node(len(nodes), parent, "", i, j, self.value(i, j)))
            if j - i > 1:
                k = splits[i, j]
                waiting += [(k, j, nodes[-1].id), (i, k, nodes[-1].id)]
        return link(nodes)


def link(nodes: list[Node]) -> Node:
    """Set the children of nodes given in preorder; `tree.build` without its limit on size."""
    children: list[list[Node]] = [[] for _ in nodes]
    for node in reversed(nodes):
        linked = replace(node, children=tuple(reversed(children[node.id])))
        if node.parent is not None:
            children[node.parent].append(linked)
    return linked


def prune(root: Node, *, max_nodes: int, threshold: float) -> Node:
    """The best small tree within a tree: keeps the nodes that are worth it, at most ``max_nodes``.

    A node may be kept, be kept as a leaf, or be left out so that its children become its parent's;
    children go on partitioning their parent's strokes. Of all such trees this is the one with the
    highest sum of ``score - threshold`` over its nodes below the root, by dynamic programming.
    """
    nodes = _preorder(root)
    plans: dict[int, _Choice] = {}
    for node in reversed(nodes):
        plans[node.id] = _Choice.of(
            node, [plans[c.id] for c in node.children], max_nodes, threshold
        )
    kept: list[Node] = []
    inside = plans[root.id].inside
    count = int(np.argmax(inside[:max_nodes])) if len(inside) else 0
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
