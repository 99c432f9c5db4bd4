"""What the generator learns to write: instructions of segments, and expansions of instructions.

Both are taken from annotated drawings. Trees that were inferred for more drawings (`trees`) add
expansions of any depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hitree_training import tree_file, wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from hitree.text import Vocabulary
    from hitree_training.data import Example
    from hitree_training.tree_file import Inferred

PLAIN = 0.4  # share of expansions whose root says no more than the subject
TRAIT = 0.25  # share whose root names one trait of the annotated root
_OPENINGS = ("draw {}", "draw {}", "draw {}", "sketch {}", "draw me {}", "{}")
_JOINS = re.compile(r",? and |, ")


@dataclass(frozen=True)
class Expansion:
    """An instruction stack and what its last instruction consists of."""

    subject: str
    stack: tuple[str, ...]  # from the root down to the node
    children: tuple[str, ...]  # instructions in drawing order; none: the node is a leaf
    kind: str  # of the drawing it was taken from: real, drawn or sampled


def expansions(examples: Iterable[Example]) -> list[Expansion]:
    """The expansions of annotated drawings: each root into steps, and every step a leaf."""
    found = []
    for example in examples:
        if example.annotation is None:
            continue
        root = example.annotation.root or wording.root(example.subject)
        steps = tuple(step.text for step in example.annotation.steps)
        found.append(Expansion(example.subject, (root,), steps, example.kind))
        found += [Expansion(example.subject, (root, s), (), example.kind) for s in steps]
    return found


def read_trees(path: Path) -> list[Expansion]:
    """The expansions of a file that `hitree-train trees` wrote.

    Raises:
        DataError: there is no such file, or a line is no tree; the message names it.
    """
    return [expansion for tree in tree_file.read(path) for expansion in _of_tree(tree)]


def _of_tree(tree: Inferred) -> Iterator[Expansion]:
    stacks: dict[int | None, tuple[str, ...]] = {None: ()}
    for node in tree.root.walk():
        stacks[node.id] = (*stacks[node.parent], node.text)
        children = tuple(child.text for child in node.children)
        yield Expansion(tree.subject, stacks[node.id], children, tree.kind)


def vary_root(root: str, subject: str, generator: torch.Generator) -> str:
    """The root as annotated, or as somebody would ask: the subject alone, or with one trait."""
    pick, which = _random(generator), _random(generator)
    if pick < PLAIN:
        opening = _OPENINGS[int(which * len(_OPENINGS))]
        return opening.format(wording.article(subject))
    traits = _traits(root)
    if pick < PLAIN + TRAIT and traits:
        return f"{wording.root(subject)} with {traits[int(which * len(traits))]}"
    return root


def _traits(root: str) -> list[str]:
    _, _, rest = root.partition(" with ")
    return [part for part in _JOINS.split(rest) if len(part.split()) > 1]


def _random(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def sentence(text: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of one instruction: BOS words EOS."""
    return [vocabulary.BOS, *vocabulary.encode(text), vocabulary.EOS]


def by_rule(text: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of an instruction that a rule made: SEP words EOS.

    It begins in another way, so that the network tells the rule's style from people's and never
    writes the former when it is asked for the latter.
    """
    return [vocabulary.SEP, *vocabulary.encode(text), vocabulary.EOS]


def listing(children: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """The ids of an expansion: BOS step SEP step … EOS, or BOS LEAF EOS."""
    if not children:
        return [vocabulary.BOS, vocabulary.LEAF, vocabulary.EOS]
    ids = [vocabulary.BOS]
    for child in children:
        ids += [*vocabulary.encode(child), vocabulary.SEP]
    return [*ids[:-1], vocabulary.EOS]


def steps(ids: Sequence[int], vocabulary: Vocabulary) -> tuple[str, ...]:
    """The instructions of an expansion's ids; none where it says LEAF."""
    found: list[str] = []
    rest = list(ids)
    while rest:
        cut = rest.index(vocabulary.SEP) if vocabulary.SEP in rest else len(rest)
        found.append(vocabulary.decode(rest[:cut]))
        rest = rest[cut + 1 :]
    return tuple(text for text in found if text)
