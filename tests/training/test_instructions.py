"""What the generator learns to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from hitree.text import Vocabulary
from hitree_training import instructions
from hitree_training.data import DataError
from hitree_training.instructions import Expansion

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "draw a cat facing left with two big ears, a long tail and whiskers"


def test_listing_and_steps_are_inverse() -> None:
    texts = ("draw a head", "add two ears")
    vocabulary = Vocabulary.of(texts)
    ids = instructions.listing(texts, vocabulary)
    assert ids[0] == vocabulary.BOS
    assert ids[-1] == vocabulary.EOS
    assert instructions.steps(ids[1:-1], vocabulary) == texts


def test_a_leaf_is_listed_as_such() -> None:
    vocabulary = Vocabulary.of(["draw"])
    ids = instructions.listing((), vocabulary)
    assert ids == [vocabulary.BOS, vocabulary.LEAF, vocabulary.EOS]
    assert instructions.steps(ids[1:-1], vocabulary) == ()


def test_a_text_by_rule_begins_in_its_own_way() -> None:
    vocabulary = Vocabulary.of(["draw a head"])
    by_rule = instructions.by_rule("draw a head", vocabulary)
    by_people = instructions.sentence("draw a head", vocabulary)
    assert by_rule[0] != by_people[0]
    assert by_rule[1:] == by_people[1:]


def test_roots_are_asked_in_many_ways() -> None:
    generator = torch.Generator().manual_seed(0)
    asked = {instructions.vary_root(ROOT, "cat", generator) for _ in range(300)}
    assert ROOT in asked
    assert {"draw a cat", "sketch a cat", "a cat"} <= asked
    assert {"draw a cat with two big ears", "draw a cat with a long tail"} <= asked
    assert all("cat" in text for text in asked)


def test_trees_of_any_depth_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_text(
        '{"key_id": "1", "subject": "cat", "kind": "drawn", "split": "train", "nodes": ['
        '{"id": 0, "parent": null, "text": "draw a cat"},'
        '{"id": 1, "parent": 0, "text": "draw a head"},'
        '{"id": 2, "parent": 1, "text": "add ears"},'
        '{"id": 3, "parent": 0, "text": "add a body"}]}\n'
    )
    assert instructions.read_trees(path) == [
        Expansion("cat", ("draw a cat",), ("draw a head", "add a body"), "drawn"),
        Expansion("cat", ("draw a cat", "draw a head"), ("add ears",), "drawn"),
        Expansion("cat", ("draw a cat", "draw a head", "add ears"), (), "drawn"),
        Expansion("cat", ("draw a cat", "add a body"), (), "drawn"),
    ]


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"nodes": 3}'])
def test_a_line_that_is_no_tree_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match="line 1"):
        instructions.read_trees(path)
