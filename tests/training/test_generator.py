"""The generator trains for real, goes on where it stopped, and writes what it learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
import torch

from hitree_training import (
    checkpoint,
    data,
    decode,
    generator_sets,
    instructions,
    presets,
    train_generator,
)
from hitree_training.checkpoint import CheckpointError
from hitree_training.describing import Describing
from hitree_training.expanding import Expanding
from hitree_training.models.generator import GeneratorPreset, Variant
from hitree_training.models.image_encoder import ImageEncoder
from hitree_training.models.memory import Memory
from hitree_training.train_generator import Options

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_training.checkpoint import Checkpoint


def options(folder: Path, out: Path, steps: int = 40) -> Options:
    preset = presets.load(GeneratorPreset, "generator-tiny")
    return Options(folder, out, preset, None, steps=steps, batch=8, rate=2e-2, evaluate_every=20)


@pytest.fixture(scope="module")
def trained(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generator") / "generator.pt"
    train_generator.train(options(small_data, out))
    return out


def test_the_loss_falls(trained: Path, small_data: Path, tmp_path: Path) -> None:
    early = train_generator.train(options(small_data, tmp_path / "g.pt", steps=2))
    late = checkpoint.load(trained, "generator")
    for figure in ("describe", "root", "expand"):
        assert late.extras["valid"][figure] < 0.85 * early.extras["valid"][figure]


@pytest.mark.parametrize("variant", [v for v in get_args(Variant) if v != "strokes"])
def test_every_variant_learns(variant: Variant, small_data: Path, tmp_path: Path) -> None:
    asked = options(small_data, tmp_path / "g.pt", steps=30)
    preset = asked.preset.model_copy(update={"variant": variant})
    early = train_generator.train(replace(asked, preset=preset, steps=1))
    late = train_generator.train(replace(asked, preset=preset))
    assert late.extras["valid"]["describe"] < 0.9 * early.extras["valid"]["describe"]
    model, _ = train_generator.load(asked.out)
    assert model.preset.variant == variant
    assert isinstance(model.segment_encoder, ImageEncoder) == variant.startswith("images")
    assert isinstance(model.memory, Memory) == variant.endswith("+memory")


def test_a_memory_helps_to_describe(small_data: Path, tmp_path: Path) -> None:
    asked = options(small_data, tmp_path / "g.pt", steps=1)
    preset = asked.preset.model_copy(update={"variant": "strokes+memory"})
    train_generator.train(replace(asked, preset=preset))
    model, _ = train_generator.load(asked.out)
    assert model.memory is not None
    names = data.token_vectors().sentence("flamingo")
    torch.testing.assert_close(model.memory.subjects[1], torch.from_numpy(names))
    strokes, spans = torch.rand(4, 32, 4), torch.tensor([[0, 2]])
    before = model.describe(strokes, spans, model.memory.subjects[:1])
    model.memory.values.data.zero_()
    assert not torch.allclose(before, model.describe(strokes, spans, model.memory.subjects[:1]))


def test_the_presets_of_the_table_differ_in_how_segments_are_read_alone() -> None:
    names = ("small", "strokes", "images", "images-memory")
    found = [presets.load(GeneratorPreset, f"generator-{name}") for name in names]
    assert {one.variant for one in found} == set(get_args(Variant))
    assert len({one.model_copy(update={"variant": "strokes", "layers": 0}) for one in found}) == 1


def test_the_checkpoint_describes_itself(trained: Path) -> None:
    found = checkpoint.load(trained, "generator")
    assert found.step == 40
    assert found.progress == 1.0
    assert found.preset == presets.load(GeneratorPreset, "generator-tiny").model_dump()
    assert found.extras["subjects"] == ["cat", "flamingo", "spider"]
    assert len(found.data_hash) == 16


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    trained: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "generator.pt"
    save = checkpoint.save

    def save_and_die(path: Path, made: Checkpoint) -> None:
        save(path, made)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train_generator.train(options(small_data, out))
    assert checkpoint.load(out, "generator").step == 20
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = train_generator.train(replace(options(small_data, out), resume=True))
    whole = checkpoint.load(trained, "generator")
    assert resumed.step == whole.step
    assert resumed.extras["valid"] == whole.extras["valid"]
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(resumed.weights[name], tensor, rtol=0, atol=0)


def test_early_stopping_keeps_the_best(small_data: Path, tmp_path: Path) -> None:
    asked = replace(options(small_data, tmp_path / "g.pt"), evaluate_every=5, patience=1)
    # A rate that ruins the network: nothing after the first evaluations is better.
    asked = replace(asked, rate=1.0)
    found = train_generator.train(asked)
    assert found.step < 40
    model, vocabulary = train_generator.load(tmp_path / "g.pt")
    held_out = generator_sets.annotated(small_data, ("drawn",), "valid")
    figures = train_generator.evaluate(
        model,
        Describing(held_out, vocabulary, "reading"),
        Expanding(instructions.expansions(held_out), vocabulary),
    )
    assert vars(figures) == pytest.approx(found.extras["valid"])


def test_it_writes_steps_and_leaves(trained: Path) -> None:
    model, vocabulary = train_generator.load(trained)
    plans = Expanding([], vocabulary)
    with torch.inference_mode():
        context = model.expand(
            *plans.read([("draw a flamingo",), ("draw a flamingo", "add two long legs")]),
            plans.subject(["flamingo", "flamingo"]),
        )
        leaf = decode.greedy(model.step, context, limit=48)[1]
        inner = (*decode.NEVER, vocabulary.LEAF)
        whole = decode.greedy(model.step, context, limit=48, banned=inner)[0]
    assert leaf.ids[0] == vocabulary.LEAF
    assert len(instructions.steps(whole.ids, vocabulary)) >= 2


def test_the_planner_learns_from_inferred_trees(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "trees.jsonl").write_text(
        '{"key_id": "1", "subject": "cat", "kind": "drawn", "split": "train", "nodes": ['
        '{"id": 0, "parent": null, "text": "draw a cat"},'
        '{"id": 1, "parent": 0, "text": "draw a zebra striped head"},'
        '{"id": 2, "parent": 1, "text": "add a zebra striped nose"},'
        '{"id": 3, "parent": 0, "text": "add a body"}]}\n'
    )
    asked = replace(options(small_data, tmp_path / "g.pt", steps=2), trees=tmp_path / "trees.jsonl")
    found = train_generator.train(asked)
    assert found.extras["trees"] == "trees.jsonl"
    assert "zebra" in train_generator.load(tmp_path / "g.pt")[1].ids


def test_a_text_decoder_is_borrowed(trained: Path, small_data: Path, tmp_path: Path) -> None:
    asked = options(small_data, tmp_path / "g.pt", steps=1)
    preset = asked.preset.model_copy(update={"variant": "images"})
    asked = replace(asked, preset=preset, rate=0.0)
    alone = train_generator.train(asked).extras["valid"]
    begun = train_generator.train(replace(asked, text_from=trained)).extras["valid"]
    assert begun["expand"] == pytest.approx(
        checkpoint.load(trained, "generator").extras["valid"]["expand"], rel=1e-4
    )
    assert begun["describe"] < alone["describe"]  # it knows how people write, if not of what


def test_a_text_decoder_of_another_width_is_refused(
    trained: Path, small_data: Path, tmp_path: Path
) -> None:
    asked = options(small_data, tmp_path / "g.pt", steps=1)
    wider = replace(asked, preset=asked.preset.model_copy(update={"hidden": 170}))
    with pytest.raises(CheckpointError, match="other widths"):
        train_generator.train(replace(wider, text_from=trained))


def test_nothing_annotated_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    line = (data.BUILTIN / "drawn" / "cat.ndjson").read_text().splitlines()[0]
    (tmp_path / "drawn" / "cat.ndjson").write_text(line + "\n")
    (tmp_path / "annotations.jsonl").write_text("")
    with pytest.raises(data.DataError):
        train_generator.train(options(tmp_path, tmp_path / "g.pt"))
