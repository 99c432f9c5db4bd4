"""Which of its best texts a node gets: nothing is said twice without need."""

from __future__ import annotations

from dataclasses import dataclass

from hitree.telling import MARGIN, repeating, tell
from hitree.tree import Node


@dataclass(frozen=True)
class Told:
    text: str
    log_prob: float = -1.0


#   0 ─┬─ 1 ─┬─ 2
#      │     └─ 3
#      └─ 4
NODES = [
    Node(0, None, "", 0, 6),
    Node(1, 0, "", 0, 4),
    Node(2, 1, "", 0, 2),
    Node(3, 1, "", 2, 4),
    Node(4, 0, "", 4, 6),
]


def options(*texts: str) -> list[list[Told]]:
    return [[Told(text)] for text in texts]


def test_the_likeliest_text_is_taken_where_nothing_repeats() -> None:
    best = options("draw a cat", "draw a head", "add two eyes", "add a mouth", "add a tail")
    best[1].append(Told("draw a body", -1.1))
    assert tell(NODES, best) == [some[0].text for some in best]
    assert repeating(NODES, tell(NODES, best)) == []


def test_a_node_does_not_say_what_one_above_it_says() -> None:
    best = options("draw a cat", "draw a head", "make a head", "draw a cat", "add a tail")
    assert repeating(NODES, [some[0].text for some in best]) == [2, 3]
    best[2] += [Told("draw a head", -1.5), Told("add two ears", -9.0)]  # however unlikely
    best[3].append(Told("add a mouth", -9.0))
    assert tell(NODES, best)[2:4] == ["add two ears", "add a mouth"]


def test_a_node_without_another_text_says_it_again() -> None:
    best = options("draw a cat", "draw a head", "draw a head", "add a mouth", "add a tail")
    assert tell(NODES, best)[2] == "draw a head"


def test_siblings_may_say_the_same_where_nothing_else_is_nearly_as_likely() -> None:
    best = options("draw a cat", "draw a head", "add an ear", "put an ear", "add a tail")
    assert repeating(NODES, [some[0].text for some in best]) == [3]
    best[3].append(Told("add the other ear", -1.0 - 0.9 * MARGIN))
    assert tell(NODES, best)[3] == "add the other ear"
    best[3][1] = Told("add a mouth", -1.0 - 1.1 * MARGIN)
    assert tell(NODES, best)[3] == "put an ear"


def test_only_the_sibling_before_counts() -> None:
    best = options("draw a cat", "draw a head", "add an ear", "add a tail", "add a tail")
    assert repeating(NODES, [some[0].text for some in best]) == []  # 3 is no sibling of 4
