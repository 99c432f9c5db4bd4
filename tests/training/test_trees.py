"""Inferred trees: over several processes, resumed after a crash, and good enough to train on."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from hitree import tree
from hitree.parse import PARSERS, Weights
from hitree.tree import Node
from hitree_training import data, instructions, presets, train_generator, train_scorer, trees
from hitree_training.annotations import Step
from hitree_training.bracketing import agreement, flat, oracle, pruned, trivial
from hitree_training.explain import Explainer, Parsing, Told, root_text
from hitree_training.models.generator import GeneratorPreset
from hitree_training.models.scorer import ScorerPreset
from hitree_training.trees import Options

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from hitree.parse import SegmentScorer
    from hitree_training.data import Example

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


@pytest.fixture
def explainer(options: Options) -> Explainer:
    return Explainer.load(options.generator, options.scorer)


@pytest.fixture
def examples(options: Options) -> list[Example]:
    return data.load(options.folder, kinds=("drawn",))[:5]


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
def test_every_parser_is_taken(
    explainer: Explainer, examples: list[Example], parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def parse(n: int, scores: SegmentScorer, weights: Weights) -> Node:
        taken.append(n)
        return parsers[parser](n, scores, weights)

    parsers = dict(PARSERS)
    monkeypatch.setitem(PARSERS, parser, parse)
    (root,) = explainer.trees(examples[:1], Parsing(parser, threshold=-9.0))
    assert taken == [len(examples[0].drawing.strokes)]
    assert (root.start, root.end) == (0, taken[0])
    assert len(list(root.walk())) > 1


def test_drawings_do_not_depend_on_what_they_are_explained_with(
    explainer: Explainer, examples: list[Example]
) -> None:
    parsing = Parsing(threshold=-9.0)
    together = explainer.trees(examples, parsing)
    alone = [tree for example in examples for tree in explainer.trees([example], parsing)]
    for one, other in zip(together, alone, strict=True):
        assert [(n.start, n.end) for n in one.walk()] == [(n.start, n.end) for n in other.walk()]
        assert [n.text for n in one.walk()] == [n.text for n in other.walk()]


def test_texts_are_written_for_kept_nodes_alone(
    explainer: Explainer, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = []

    def likeliest(self: Explainer, context: Tensor) -> list[Told]:  # noqa: ARG001
        described.append(len(context))
        return [Told(f"add part {k}", -1.0) for k in range(len(context))]

    monkeypatch.setattr(Explainer, "likeliest", likeliest)
    trees = explainer.trees(examples, Parsing(threshold=-9.0, max_nodes=3))
    assert described == [sum(len(list(tree.walk())) for tree in trees)]
    explainer.trees(examples[:1], Parsing(weights=Weights(unity=1.0, likelihood=0.1)))
    strokes = len(examples[0].drawing.strokes)
    assert strokes * (strokes + 1) // 2 in described  # every segment, where texts count


def test_a_node_does_not_repeat_the_one_above(
    explainer: Explainer, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def likeliest(self: Explainer, context: Tensor) -> list[Told]:  # noqa: ARG001
        return [Told("draw a head", -1.0) for _ in context]

    def best(self: Explainer, context: Tensor) -> list[list[Told]]:  # noqa: ARG001
        texts = ("draw a head", "add an eye", "add an ear", "add a nose", "add a mouth")
        return [[Told(text, -1.0 - 0.01 * k) for k, text in enumerate(texts)] for _ in context]

    monkeypatch.setattr(Explainer, "likeliest", likeliest)
    monkeypatch.setattr(Explainer, "best", best)
    for root in explainer.trees(examples, Parsing(threshold=-9.0, max_nodes=5)):
        for node in root.walk():
            said = [child.text for child in node.children]
            assert node.text not in said
            assert all(a != b for a, b in pairwise(said))


def test_a_root_is_called_as_annotated_or_as_described_where_that_names_the_subject(
    examples: list[Example],
) -> None:
    example = examples[0]
    assert example.annotation
    assert root_text(example, "draw a dog") == example.annotation.root
    plain = replace(example, annotation=None, subject="sea turtle")
    assert root_text(plain, "sketch a sea turtle swimming") == "sketch a sea turtle swimming"
    assert root_text(plain, "draw a turtle") == "draw a sea turtle"


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
