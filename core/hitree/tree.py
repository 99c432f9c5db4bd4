"""Instruction trees: what a drawing is made of, from the whole down to its parts.

The root is the whole drawing; children partition their parent's strokes in drawing order. A tree
that was made from a prompt is a *plan*: its nodes have no spans until it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from hitree.errors import InvalidPlan
from hitree.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Node:
    """One instruction of a tree."""

    id: int  # preorder index; the root is 0
    parent: int | None  # id of the parent; None for the root
    text: str  # the instruction: "add two ears"
    start: int | None = None  # first stroke; None until drawn
    end: int | None = None  # one past the last stroke; None until drawn
    score: float | None = None  # how well the text fits; None where nothing was scored
    children: tuple[Node, ...] = field(default=(), compare=False, repr=False)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, in preorder."""
        todo = [self]
        while todo:  # no recursion: parsed trees can be as deep as they have strokes
            node = todo.pop()
            yield node
            todo.extend(reversed(node.children))


@dataclass(frozen=True, eq=False)
class Plan:
    """An instruction tree with what it is about; equal to another where all nodes are."""

    root: Node
    subject: str = ""  # with spaces: "sea turtle"
    confidence: float = 1.0  # 0 to 1, how sure the subject is
    prompt: str = ""  # what was asked for; empty for annotations

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in preorder, so that ``nodes[i].id == i``."""
        return tuple(self.root.walk())

    @cached_property
    def leaves(self) -> tuple[Node, ...]:
        """The nodes without children, in drawing order."""
        return tuple(node for node in self.nodes if not node.children)

    def __eq__(self, other: object) -> bool:
        """Compare all nodes; in preorder their parents tell the whole tree."""
        return isinstance(other, Plan) and self._key() == other._key()

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.nodes, self.subject, self.confidence, self.prompt

    def stack(self, node_id: int) -> tuple[str, ...]:
        """The texts from the root down to a node: what a leaf is drawn under."""
        texts: list[str] = []
        current: int | None = node_id
        while current is not None:
            node = self.nodes[current]
            texts.append(node.text)
            current = node.parent
        return tuple(reversed(texts))

    def with_spans(self, spans: Mapping[int, tuple[int, int]]) -> Plan:
        """The plan with the strokes that its leaves were drawn with; parents cover them.

        A leaf that is not in ``spans`` was not drawn, and neither were the parents above it.
        """
        nodes = list(self.nodes)
        for index in range(len(nodes) - 1, -1, -1):
            span = _cover(nodes, index) if self.nodes[index].children else spans.get(index)
            start, end = span or (None, None)
            nodes[index] = replace(nodes[index], start=start, end=end)
        return replace(self, root=build(nodes))

    def __str__(self) -> str:
        """The tree, readable in a terminal."""
        return "\n".join(_lines(self.root, "", ""))


def build(nodes: list[Node]) -> Node:
    """Link nodes given in preorder into a tree; their ``children`` are set anew.

    Raises:
        InvalidPlan: ids are no preorder, a parent does not exist, there are too many nodes, or
            children do not partition their parent's strokes.
    """
    _check_order(nodes)
    children: list[list[Node]] = [[] for _ in nodes]
    for node in reversed(nodes):
        below = tuple(reversed(children[node.id]))
        linked = Node(node.id, node.parent, node.text, node.start, node.end, node.score, below)
        _check_spans(linked)
        if node.parent is None:
            return linked
        children[node.parent].append(linked)
    raise InvalidPlan("the plan has no root; send a node with id 0 and no parent")


def _check_order(nodes: list[Node]) -> None:
    if not 1 <= len(nodes) <= LIMITS.plan_nodes:
        raise InvalidPlan(f"a plan has 1 to {LIMITS.plan_nodes} nodes, this one {len(nodes)}")
    path: list[int] = []  # ids from the root to the last node
    for index, node in enumerate(nodes):
        if node.id != index:
            raise InvalidPlan(f"node {index} has id {node.id}; ids count from 0 in preorder")
        if (node.parent is None) != (index == 0):
            raise InvalidPlan(f"node {index}: the root, and only the root, has no parent")
        while path and path[-1] != node.parent:
            path.pop()
        if index and not path:
            raise InvalidPlan(
                f"node {index} has parent {node.parent}, which is no node on the way to it; "
                "list nodes in preorder"
            )
        path.append(index)


def _check_spans(node: Node) -> None:
    if (node.start is None) != (node.end is None):
        raise InvalidPlan(f"node {node.id} has one end of its span; send start and end, or none")
    if node.start is None or node.end is None:
        return
    if not 0 <= node.start <= node.end:
        raise InvalidPlan(f"node {node.id} covers [{node.start}, {node.end}), which is no span")
    at = node.start
    for child in node.children:
        if child.start != at or child.end is None:
            raise InvalidPlan(f"the children of node {node.id} do not partition its strokes")
        at = child.end
    if node.children and at != node.end:
        raise InvalidPlan(f"the children of node {node.id} do not cover its strokes")


def _cover(nodes: list[Node], index: int) -> tuple[int, int] | None:
    spans = [(n.start, n.end) for n in nodes if n.parent == index]
    starts = [start for start, _ in spans if start is not None]
    ends = [end for _, end in spans if end is not None]
    return (min(starts), max(ends)) if len(starts) == len(spans) else None


def _lines(node: Node, lead: str, below: str) -> Iterator[str]:
    span = "" if node.start is None else f"  [{node.start}, {node.end})"
    yield f"{lead}{node.text}{span}"
    for child in node.children:
        last = child is node.children[-1]
        yield from _lines(
            child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
        )
