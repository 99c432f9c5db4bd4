"""Which of its n best texts each node of a tree gets, so that a tree does not say things twice.

A node must not say what a node above it says: its text would add nothing. It may say what the
sibling before it says, where strokes are so alike that nothing else is nearly as likely (an ant's
legs, one by one). Texts that differ in their verb alone say the same: "add an ear", "put an ear".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from hitree.text import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree.tree import Node

MARGIN = 0.5  # nats a word that another text may be less likely than saying the sibling's again


class Option(Protocol):
    """A text that a segment may be described by."""

    @property
    def text(self) -> str:
        """The instruction."""

    @property
    def log_prob(self) -> float:
        """Mean of a word."""


def tell(nodes: Sequence[Node], options: Sequence[Sequence[Option]]) -> list[str]:
    """Choose a text for each of ``nodes``, in preorder, of its ``options``, at least one each."""
    texts: list[str] = []
    for node, best in zip(nodes, options, strict=True):
        above = _above(nodes, texts, node)
        new = [told for told in best if thing(told.text) not in above] or best
        sibling = _before(nodes, texts, node)
        other = [told for told in new if thing(told.text) != sibling]
        fair = [told for told in other if told.log_prob > new[0].log_prob - MARGIN]
        texts.append((fair or new)[0].text)
    return texts


def repeating(nodes: Sequence[Node], texts: Sequence[str]) -> list[int]:
    """Indices of ``nodes`` whose texts say what a node above or the sibling before says."""
    return [
        index
        for index, node in enumerate(nodes)
        if thing(texts[index]) in {*_above(nodes, texts, node), _before(nodes, texts, node)}
    ]


@lru_cache(maxsize=4096)
def thing(text: str) -> tuple[str, ...]:
    """What a text is about: its words without the verb."""
    return tuple(words(text)[1:])


def _above(nodes: Sequence[Node], texts: Sequence[str], node: Node) -> set[tuple[str, ...]]:
    """What the nodes above one say."""
    found = set()
    while node.parent is not None:
        found.add(thing(texts[node.parent]))
        node = nodes[node.parent]
    return found


def _before(nodes: Sequence[Node], texts: Sequence[str], node: Node) -> tuple[str, ...] | None:
    """What the sibling before one says; None where it is the first."""
    for index in range(node.id - 1, -1, -1):
        if nodes[index].parent == node.parent:
            return thing(texts[index])
        if index == node.parent:
            break
    return None
