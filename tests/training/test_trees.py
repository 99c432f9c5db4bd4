"""Inferred trees: over several processes, resumed after a crash, and good enough to train on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hitree import tree
from hitree.tree import Node
from hitree_training import data, instructions, presets, train_generator, train_scorer, trees
from hitree_training.annotations import Step
from hitree_training.bracketing import agreement, flat, oracle, pruned, trivial
from hitree_training.explain import Explainer, Parsing
from hitree_training.models.generator import GeneratorPreset
from hitree_training.models.scorer import ScorerPreset
from hitree_training.trees import Options

if TYPE_CHECKING:
    from pathlib import Path

STEPS = (Step(0, 1, "draw a head"), Step(1, 4, "add a mane"), Step(4, 6, "add two eyes"))


@pytest.fixture(scope="module")
def checkpoints(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    preset = presets.load(GeneratorPreset, "generator-tiny")
    train_generator.train(
        train_generator.Options(
            small_data, folder / "generator.pt", preset, None, steps=20, batch=4, rate=2e-2
        )
    )
    train_scorer.train(
        train_scorer.Options(
            small_data,
            folder / "scorer.pt",
            presets.load(ScorerPreset, "scorer-tiny"),
            None,
            steps=2,
            batch=4,
            bulk=4,
        )
    )
    return folder


@pytest.fixture
def options(small_data: Path, checkpoints: Path, tmp_path: Path) -> Options:
    return Options(
        small_data,
        tmp_path / "trees.jsonl",
        checkpoints / "generator.pt",
        checkpoints / "scorer.pt",
        kinds=("drawn",),
        limit=6,
    )


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trees_are_trees_and_train_the_planner(options: Options) -> None:
    assert trees.infer(options) == 6
    for line in read(options.out):
        nodes = line["nodes"]
        assert isinstance(nodes, list)
        tree.build([Node(**node) for node in nodes])
        assert len(nodes) <= options.parsing.max_nodes
        assert all(node["text"] for node in nodes[:1])
    assert len(instructions.read_trees(options.out)) >= 6


def test_a_run_that_crashed_goes_on(options: Options) -> None:
    trees.infer(options)
    whole = options.out.read_text()
    lines = whole.splitlines(keepends=True)
    options.out.write_text("".join(lines[:2]) + lines[2][:40])
    assert trees.infer(options) == 4
    assert options.out.read_text() == whole


def test_processes_share_the_work_and_change_nothing(options: Options) -> None:
    trees.infer(options)
    other = replace(options, out=options.out.with_name("other.jsonl"), processes=2)
    trees.infer(other)
    assert other.out.read_text() == options.out.read_text()


@pytest.mark.parametrize("parser", ["greedy", "cky", "bottom_up"])
def test_every_parser_is_taken(options: Options, parser: str) -> None:
    explainer = Explainer.load(options.generator, options.scorer)
    example = data.load(options.folder, kinds=("drawn",))[0]
    root = explainer.tree(
        example.drawing, example.subject, "draw it", Parsing(parser, threshold=-9.0)
    )
    assert root.text == "draw it"
    assert (root.start, root.end) == (0, len(example.drawing.strokes))
    assert len(list(root.walk())) > 1


def test_agreement_counts_spans_of_several_strokes_below_the_root() -> None:
    found = agreement(flat(6, 3), STEPS)  # [0, 2) [2, 4) [4, 6)
    assert (found.matched, found.found, found.wanted) == (1, 3, 2)
    figures = (found + found).figures()
    assert figures == {
        "recall": 0.5,
        "precision": pytest.approx(1 / 3),
        "f1": pytest.approx(0.4),
    }


def test_the_oracle_is_the_ceiling() -> None:
    found = agreement(pruned(oracle(6, STEPS), 4), STEPS)
    assert found.figures()["f1"] == 1.0


def test_trivial_trees_are_what_they_are_called() -> None:
    made = trivial(5, seed=0)
    spans = {name: [(n.start, n.end) for n in root.walk()] for name, root in made.items()}
    assert (0, 4) in spans["left_branching"]
    assert (1, 5) in spans["right_branching"]
    assert (0, 2) in spans["balanced"]
    assert spans["flat_3"] == [(0, 5), (0, 2), (2, 3), (3, 5)]
    assert all(len(spans[name]) == 9 for name in ("left_branching", "balanced", "random"))
    for root in made.values():
        tree.build(list(root.walk()))
        tree.build(list(pruned(root, 4).walk()))
