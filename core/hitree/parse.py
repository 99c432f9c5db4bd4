"""Parsing: the binary instruction tree that explains a drawing best.

A `SegmentScorer` says what each segment is worth: above all its *unity*, the log-odds that it is
one step of the drawing, which takes no text; and, where `Weights` ask for it, how well its own best
instruction fits it. A split of ``[i, j)`` at ``k`` scores the values of its halves plus its
*coherence*: how well the instructions of the halves together explain the strokes of the whole.
Three parsers maximise the sum of split scores:

* `greedy` (the talk's): from the whole downwards, the best split of each segment by itself.
* `cky`: the best tree there is, by dynamic programming over all O(n^2) segments.
* `bottom_up`: from single strokes upwards, the best merge of two neighbours at a time.

They return nodes without texts whose ``score`` is the segment's value; `hitree.prune` makes small
trees with any number of children of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hitree.errors import InvalidDrawing
from hitree.prune import link
from hitree.tree import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Floats = NDArray[np.float32]
Spans = NDArray[np.int64]  # (S, 2), or the places (K,) between them
Span = tuple[int, int]

CKY_LEAVES = 64  # beyond, `bottom_up` merges strokes until so many units are left


@dataclass(frozen=True, eq=False)
class Fits:
    """What is known about S segments, each under its own best instruction."""

    unity: Floats  # (S,) log-odds that the segment is one step of the drawing
    fit: Floats  # (S,) how well the instruction fits, -1 to 1
    likelihood: Floats  # (S,) mean log-probability of the instruction's words
    strokes: Floats  # (S,) log-likelihood of the strokes under the instruction, less without it
    segments: Floats  # (S, D) embeddings of the strokes, unit norm
    texts: Floats  # (S, D) embeddings of the instructions, unit norm

    @classmethod
    def of_unity(cls, unity: Floats) -> Self:
        """What is known where no instruction was written: zeros beside ``unity`` (S,)."""
        zeros, nothing = np.zeros_like(unity), np.zeros((len(unity), 0), np.float32)
        return cls(unity, zeros, zeros, zeros, nothing, nothing)


class SegmentScorer(Protocol):
    """Scores segments of one drawing."""

    def spans(self, spans: Spans) -> Fits:
        """Score the segments ``spans`` (S, 2), rows ``[start, end)``, S >= 1."""


@dataclass(frozen=True, eq=False)
class Judged:
    """All segments of one drawing, scored beforehand in one batch; a `SegmentScorer`."""

    strokes: int  # of the drawing
    fits: Fits  # of `all_spans`

    def spans(self, spans: Spans) -> Fits:
        """Look segments up."""
        start, end = spans[:, 0], spans[:, 1]
        # Before those that begin at a stroke lie all that begin earlier: n + (n - 1) + … of them.
        rows = start * self.strokes - start * (start - 1) // 2 + end - start - 1
        return Fits(**{name: column[rows] for name, column in vars(self.fits).items()})


def all_spans(strokes: int) -> Spans:
    """Every segment of a drawing, by its start, then by its end: (n (n + 1) / 2, 2)."""
    start, end = np.triu_indices(strokes)
    return np.stack([start, end + 1], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Weights:
    """What counts how much in the value of a segment and the score of a split."""

    unity: float = 0.0
    fit: float = 0.0
    likelihood: float = 0.0
    strokes: float = 0.0
    coherence: float = 0.0

    @property
    def reads_text(self) -> bool:
        """Whether segments have to be described before they can be judged."""
        return any((self.fit, self.likelihood, self.strokes, self.coherence))

    def value(self, fits: Fits) -> Floats:
        """What segments are worth. (S,)"""
        worth: Floats = (
            self.unity * fits.unity
            + self.fit * fits.fit
            + self.likelihood * fits.likelihood
            + self.strokes * fits.strokes
        )
        return worth


DEFAULT = Weights(unity=1.0)
"""Texts add next to nothing on held-out annotations, and cost a description a segment."""


def greedy(n: int, scores: SegmentScorer, weights: Weights = DEFAULT) -> Node:
    """Split the whole, then each half, at its best place; n >= 1 strokes."""
    table = _Table(n, scores, weights)
    splits: dict[Span, int] = {}
    level = [(0, n)]
    while level := [(i, j) for i, j in level if j - i > 1]:
        table.ask((half for i, j in level for k in range(i + 1, j) for half in ((i, k), (k, j))))
        for i, j in level:
            splits[i, j] = i + 1 + int(np.argmax(table.split_scores(i, j, np.arange(i + 1, j))))
        level = [half for i, j in level for half in ((i, splits[i, j]), (splits[i, j], j))]
    return table.tree(splits)


def cky(n: int, scores: SegmentScorer, weights: Weights = DEFAULT) -> Node:
    """The binary tree with the highest sum of split scores; n >= 1 strokes.

    Drawings of more than `CKY_LEAVES` strokes are first merged bottom up to so many units.
    """
    table = _Table(n, scores, weights)
    splits: dict[Span, int] = {}
    cuts = np.array(_merge(table, splits, leave=CKY_LEAVES))
    units = len(cuts) - 1
    table.ask(map(tuple, cuts[all_spans(units)].tolist()))
    best = np.zeros((units + 1, units + 1), np.float32)  # sum of split scores below a segment
    for width in range(2, units + 1):
        for a in range(units - width + 1):
            b = a + width
            i, j = int(cuts[a]), int(cuts[b])
            total = table.split_scores(i, j, cuts[a + 1 : b])
            total = total + best[a, a + 1 : b] + best[a + 1 : b, b]
            at = int(np.argmax(total))
            best[a, b], splits[i, j] = total[at], int(cuts[a + 1 + at])
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

PARSER = "greedy"
"""The default: on held-out annotations a point of F1 above `cky`, which pays for every node that
only makes the tree binary, though pruning takes it out again."""


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
    return table.value(i, j) + float(table.coherence(i, j, np.array([k]))[0])


class _Table:
    """What was asked of the scorer so far, so that no segment is scored twice."""

    def __init__(self, n: int, scores: SegmentScorer, weights: Weights) -> None:
        if n < 1:
            raise InvalidDrawing(f"a drawing of {n} strokes has no tree; send at least one stroke")
        self.n = n
        self._scores = scores
        self._weights = weights
        self._values = np.full((n + 1, n + 1), np.nan, np.float32)  # of [i, j); nan: not asked
        self._segments: dict[Span, Floats] = {}  # (D,) each, where coherence counts
        self._texts: dict[Span, Floats] = {}
        self.ask([(0, n)])

    def ask(self, spans: Iterable[Span]) -> None:
        """Score the segments that are new, in one batch."""
        fresh = [span for span in dict.fromkeys(spans) if np.isnan(self._values[span])]
        if not fresh:
            return
        rows = np.array(fresh, np.int64)
        fits = self._scores.spans(rows)
        self._values[rows[:, 0], rows[:, 1]] = self._weights.value(fits)
        if self._weights.coherence:
            self._segments.update(zip(fresh, fits.segments, strict=True))
            self._texts.update(zip(fresh, fits.texts, strict=True))

    def value(self, i: int, j: int) -> float:
        return float(self._values[i, j])

    def split_scores(self, i: int, j: int, at: Spans) -> Floats:
        """The scores of splits of ``[i, j)`` at each of ``at``, (K,)."""
        scores: Floats = self._values[i, at] + self._values[at, j] + self.coherence(i, j, at)
        return scores

    def coherence(self, i: int, j: int, at: Spans) -> Floats:
        """How well the halves' instructions together explain the whole, for each split. (K,)"""
        if not self._weights.coherence:
            return np.zeros(len(at), np.float32)
        left = np.stack([self._texts[i, k] for k in at.tolist()])
        right = np.stack([self._texts[k, j] for k in at.tolist()])
        both = left + right  # (K, D)
        both = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
        weighted: Floats = self._weights.coherence * (both @ self._segments[i, j])
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
