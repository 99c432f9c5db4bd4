"""Parsing: the parsers against brute force, pruning against enumeration."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hitree import tree
from hitree.errors import InvalidDrawing
from hitree.parse import (
    DEFAULT,
    PARSERS,
    Fits,
    Judged,
    Weights,
    all_spans,
    bottom_up,
    cky,
    greedy,
)
from hitree.prune import prune

if TYPE_CHECKING:
    from hitree.tree import Node

SPACE = 6
VALUES = ("unity", "fit", "likelihood", "strokes")
FIT_ONLY = Weights(fit=1.0)
ALL = Weights(unity=0.7, fit=1.0, likelihood=0.2, strokes=0.1, coherence=0.5)


@dataclass
class FakeScorer:
    """Random but fixed fits, or chosen ones; remembers what it was asked."""

    seed: int = 0
    chosen: dict[tuple[int, int], float] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)
    batches: int = 0

    def spans(self, spans: np.ndarray) -> Fits:
        assert spans.dtype == np.int64
        assert (spans[:, 0] < spans[:, 1]).all()
        self.batches += 1
        rows = [(int(i), int(j)) for i, j in spans]
        self.asked += rows
        made = [vars(self.one(*row)).values() for row in rows]
        return Fits(*(np.array(column) for column in zip(*made, strict=True)))

    def one(self, i: int, j: int) -> Fits:
        """A segment by itself, without the axis over segments."""
        rng = np.random.default_rng([self.seed, i, j])
        unity, fit, likelihood, strokes = rng.uniform((0, -1, -3, -4), (1, 1, 0, 2))
        both = rng.normal(size=(2, SPACE))
        segment, text = both / np.linalg.norm(both, axis=1, keepdims=True)
        fit = self.chosen.get((i, j), 0.0 if self.chosen else fit)
        return Fits(unity, fit, likelihood, strokes, segment, text)


def spans(root: Node) -> set[tuple[int, int]]:
    return {(node.start or 0, node.end or 0) for node in root.walk()}


def best_sum(scorer: FakeScorer, weights: Weights, i: int, j: int) -> float:
    """The highest sum of split scores over all binary trees of [i, j), by brute force."""
    if j - i == 1:
        return 0.0
    return max(
        split_score(scorer, weights, i, k, j)
        + best_sum(scorer, weights, i, k)
        + best_sum(scorer, weights, k, j)
        for k in range(i + 1, j)
    )


def split_score(scorer: FakeScorer, weights: Weights, i: int, k: int, j: int) -> float:
    halves = scorer.one(i, k), scorer.one(k, j)
    both = halves[0].texts + halves[1].texts
    coherence = float(scorer.one(i, j).segments @ both / np.linalg.norm(both))
    values = [
        sum(getattr(weights, name) * getattr(half, name) for name in VALUES) for half in halves
    ]
    return sum(values) + weights.coherence * coherence


def sum_of(scorer: FakeScorer, weights: Weights, root: Node) -> float:
    return sum(
        split_score(scorer, weights, node.start or 0, node.children[0].end or 0, node.end or 0)
        for node in root.walk()
        if node.children
    )


@pytest.mark.parametrize("parser", sorted(PARSERS))
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_a_parser_returns_a_binary_tree_over_all_strokes(parser: str, n: int) -> None:
    root = PARSERS[parser](n, FakeScorer(), ALL)
    nodes = tuple(root.walk())
    assert [node.id for node in nodes] == list(range(2 * n - 1))
    assert (root.start, root.end, root.parent) == (0, n, None)
    assert all(len(node.children) in (0, 2) for node in nodes)
    tree.build(list(nodes))  # refuses children that do not partition their parent


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weights", [FIT_ONLY, ALL, DEFAULT])
def test_cky_finds_the_best_of_all_trees(seed: int, weights: Weights) -> None:
    scorer = FakeScorer(seed)
    found = sum_of(scorer, weights, cky(7, scorer, weights))
    assert found == pytest.approx(best_sum(scorer, weights, 0, 7), abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_no_parser_beats_cky(seed: int) -> None:
    scorer, weights = FakeScorer(seed), ALL
    best = sum_of(scorer, weights, cky(10, scorer, weights))
    for parser in (greedy, bottom_up):
        assert sum_of(scorer, weights, parser(10, scorer, weights)) <= best + 1e-4


def test_greedy_takes_the_best_split_first() -> None:
    scorer = FakeScorer(chosen={(0, 2): 0.9, (2, 5): 0.9, (0, 3): 0.5})
    assert {(0, 2), (2, 5)} <= spans(greedy(5, scorer, FIT_ONLY))


def test_bottom_up_merges_the_best_pair_first() -> None:
    scorer = FakeScorer(chosen={(1, 3): 0.9, (3, 5): 0.8, (0, 2): 0.1})
    assert {(1, 3), (3, 5)} <= spans(bottom_up(5, scorer, FIT_ONLY))


def test_cky_asks_for_all_segments_in_one_batch_and_none_twice() -> None:
    scorer = FakeScorer()
    cky(12, scorer)
    assert scorer.batches == 2  # the whole drawing, then all the rest
    assert len(scorer.asked) == len(set(scorer.asked)) == 12 * 13 // 2


def test_cky_of_many_strokes_stays_affordable() -> None:
    scorer = FakeScorer()
    root = cky(512, scorer)
    assert spans(root) >= {(k, k + 1) for k in range(512)}
    assert len(scorer.asked) < 5 * 512 + 64 * 65 // 2


def test_no_strokes_are_refused() -> None:
    with pytest.raises(InvalidDrawing, match="at least one stroke"):
        cky(0, FakeScorer())


def test_weights_decide_what_counts() -> None:
    scorer = FakeScorer(3)
    one, weights = scorer.one(0, 4), Weights(unity=3.0, fit=2.0, likelihood=0.5, strokes=0.25)
    wanted = 3 * one.unity + 2 * one.fit + 0.5 * one.likelihood + 0.25 * one.strokes
    assert cky(4, scorer, weights).score == pytest.approx(wanted)


def test_only_texts_ask_for_texts() -> None:
    assert not DEFAULT.reads_text
    for name in ("fit", "likelihood", "strokes", "coherence"):
        assert Weights(**{name: 0.1}).reads_text


def test_segments_judged_beforehand_are_the_same_segments() -> None:
    scorer = FakeScorer(2)
    known = Judged(6, scorer.spans(all_spans(6)))
    for parser in PARSERS.values():
        assert sum_of(scorer, ALL, parser(6, known, ALL)) == pytest.approx(
            sum_of(scorer, ALL, parser(6, scorer, ALL))
        )
    some = np.array([[2, 5], [0, 6], [5, 6]])
    assert known.spans(some).fit.tolist() == [scorer.one(*span).fit for span in some.tolist()]


def test_unity_alone_needs_no_texts() -> None:
    unity = np.array([0.1, 0.9, 0.0, 0.2, 0.3, 0.8], np.float32)  # [0,1) [0,2) [0,3) [1,2) …
    root = cky(3, Judged(3, Fits.of_unity(unity)))
    assert {(0, 2), (2, 3)} <= spans(root)
    assert [node.score for node in root.walk()] == pytest.approx([0.0, 0.9, 0.1, 0.2, 0.8])


def test_prune_to_one_node_leaves_the_root() -> None:
    root = prune(cky(6, FakeScorer()), max_nodes=1, threshold=-9.0)
    assert (root.start, root.end, root.children) == (0, 6, ())


def test_prune_keeps_a_few_nodes_even_of_a_poor_tree() -> None:
    full = cky(6, FakeScorer(), FIT_ONLY)
    assert len(list(prune(full, max_nodes=64, threshold=9.0).walk())) == 3
    assert len(list(prune(full, max_nodes=64, threshold=9.0, least=5).walk())) == 5
    assert len(list(prune(full, max_nodes=64, threshold=9.0, least=1).walk())) == 1
    assert len(list(prune(full, max_nodes=2, threshold=9.0).walk())) == 1  # one child is none
    assert len(list(prune(cky(1, FakeScorer()), max_nodes=64, threshold=9.0).walk())) == 1


def test_prune_keeps_everything_that_is_worth_it() -> None:
    full = cky(6, FakeScorer())
    assert spans(prune(full, max_nodes=64, threshold=-9.0)) == spans(full)


def test_prune_leaves_out_a_poor_node_and_keeps_its_children() -> None:
    scorer = FakeScorer(chosen={(0, 1): 0.9, (1, 2): 0.9, (2, 3): 0.9, (1, 3): -0.5})
    root = prune(cky(3, scorer, FIT_ONLY), max_nodes=64, threshold=0.2)
    assert [(child.start, child.end) for child in root.children] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_nodes", [2, 4, 5, 8])
def test_prune_finds_the_best_small_tree(seed: int, max_nodes: int) -> None:
    threshold = -0.1
    full = cky(5, FakeScorer(seed), FIT_ONLY)
    found = prune(full, max_nodes=max_nodes, threshold=threshold, least=1)
    tree.build(list(found.walk()))
    worth = sum((node.score or 0.0) - threshold for node in found.walk() if node.id)
    assert len(list(found.walk())) <= max_nodes
    assert worth == pytest.approx(enumerate_best(full, max_nodes, threshold), abs=1e-4)


def enumerate_best(full: Node, max_nodes: int, threshold: float) -> float:
    """The worth of the best subset of nodes that is a tree, by trying all subsets."""
    below = [node for node in full.walk() if node.id]
    best = 0.0
    for size in range(1, max_nodes):
        for subset in combinations(below, size):
            if is_tree([full, *subset]):
                best = max(best, sum((node.score or 0.0) - threshold for node in subset))
    return best


def is_tree(nodes: list[Node]) -> bool:
    """Whether the spans, nested, partition each other: all with children below are covered."""
    for outer in nodes:
        size = (outer.end or 0) - (outer.start or 0)
        inner = [n for n in nodes if n is not outer and inside(n, outer)]
        direct = [n for n in inner if not any(inside(n, m) for m in inner if m is not n)]
        if inner and sum((n.end or 0) - (n.start or 0) for n in direct) != size:
            return False
    return True


def inside(inner: Node, outer: Node) -> bool:
    return (outer.start or 0) <= (inner.start or 0) and (inner.end or 0) <= (outer.end or 0)


def test_prune_of_a_deep_tree_needs_no_recursion() -> None:
    chain = {(k, 512): 1.0 for k in range(512)}
    deep = cky(512, FakeScorer(chosen=chain), FIT_ONLY)
    small = prune(deep, max_nodes=64, threshold=0.5)
    assert len(list(small.walk())) <= 64
