"""Bundles: complete, described, and not written at all where something is wrong."""

import json
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from typer.testing import CliRunner

from bundles import VERSION, tiny_bundle, tiny_checkpoints
from hitree import bundle as core_bundle
from hitree.embedding import TokenVectors
from hitree.text import Vocabulary
from hitree_export import __main__ as cli
from hitree_export import bundle as bundles
from hitree_export import graphs, networks, parity
from hitree_export.graphs import ExportError
from hitree_export.parity import ParityError
from hitree_training import checkpoint
from hitree_training.checkpoint import CheckpointError
from hitree_training.trained import digest

FILES = {
    "decoder_step.onnx", "decoder_step.int8.onnx", "decoder_step.fp16.onnx", "decoder_rows.onnx",
    "condition.onnx",
    "scorer_segments.onnx", "scorer_texts.onnx", "scorer_unity.onnx",
    "generator_describe.onnx", "generator_expand.onnx", "generator_step.onnx", "classifier.onnx",
    "vocabulary.json", "tokens.npz", "tokenizer.json",
}  # fmt: skip


def test_a_bundle_holds_what_it_says_and_loads():
    made = tiny_bundle()
    loaded = core_bundle.load(made.path)
    assert loaded.manifest == made.manifest
    assert set(made.manifest.sha256) == FILES
    assert {path.name for path in made.path.iterdir()} == FILES | {core_bundle.MANIFEST}
    vocabulary = Vocabulary.from_json(made.file("vocabulary.json").read_bytes())
    assert made.manifest.generator.outputs[0].shape == (len(vocabulary),)
    assert TokenVectors.load(made.path).width == 128


def test_the_manifest_describes_where_it_comes_from():
    manifest = tiny_bundle().manifest
    assert (manifest.name, manifest.version) == ("hitree", VERSION)
    assert manifest.data_hash == "0" * 64
    assert len(manifest.subjects) == 35
    assert "sea turtle" in manifest.subjects
    assert manifest.scale == pytest.approx(12.0)
    assert manifest.metrics["decoder.valid.drawn.nll"] == 1.5
    assert manifest.metrics["parity.step_agreement"] >= parity.AGREE_STEP
    assert set(manifest.settings) == set(bundles.SETTINGS)
    assert "CC BY 4.0" in manifest.licences["Quick, Draw! drawings"]
    assert {"torch", "onnx", "onnxruntime"} <= set(manifest.versions)


def changed(tmp_path, model, **fields):
    """The checkpoints with one of them changed."""
    sources = tiny_checkpoints()
    found = checkpoint.load(getattr(sources, model), model)
    path = tmp_path / f"{model}.pt"
    checkpoint.save(path, checkpoint.Checkpoint(**(vars(found) | fields)))
    return bundles.Sources(**(vars(sources) | {model: path}))


@pytest.fixture
def quick(monkeypatch):
    """Graphs exported before, and no parity check: for tests of what is around them."""
    monkeypatch.setattr(parity, "check", lambda *_: parity.Report(1.0, 1.0, 0.0))
    monkeypatch.setattr(bundles, "export_all", lambda *_: exported())


@cache
def exported():
    found = networks.load(**vars(tiny_checkpoints()))
    return graphs.export_all(found.decoder, found.generator, found.scorer, found.classifier)


def extras_of(model):
    return checkpoint.load(getattr(tiny_checkpoints(), model), model).extras


@pytest.mark.usefixtures("quick")
def test_subjects_are_those_that_all_models_learnt(tmp_path):
    some = changed(tmp_path, "scorer", extras=extras_of("scorer") | {"subjects": ["cat", "yak"]})
    assert bundles.make(some, tmp_path / "bundle").manifest.subjects == ("cat",)
    none = changed(tmp_path, "scorer", extras=extras_of("scorer") | {"subjects": ["yak"]})
    with pytest.raises(ExportError, match="subject in common"):
        bundles.make(none, tmp_path / "bundle")


def test_the_classifier_tells_the_subjects_of_the_bundle_in_their_order(tmp_path):
    known = ["yak", *reversed(extras_of("classifier")["subjects"][1:])]
    some = changed(tmp_path, "classifier", extras={"subjects": known})
    found = networks.load(**vars(some))
    assert found.subjects == tuple(extras_of("decoder")["subjects"][1:])
    images = torch.rand(2, 1, found.classifier.size, found.classifier.size)
    whole = networks.load(**vars(tiny_checkpoints())).classifier(images)
    torch.testing.assert_close(found.classifier(images), whole[:, 1:].flip(1))


@pytest.mark.usefixtures("quick")
def test_a_package_that_is_replaced_stays_a_package(tmp_path):
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "__init__.py").write_text('"""Data."""\n')
    (out / "old.onnx").write_text("old")
    made = bundles.make(tiny_checkpoints(), out)
    assert (out / "__init__.py").read_text() == '"""Data."""\n'
    assert not (out / "old.onnx").exists()
    assert core_bundle.load(out).manifest == made.manifest


@pytest.mark.usefixtures("quick")
def test_checkpoints_of_different_data_have_a_hash_together(tmp_path):
    made = bundles.make(changed(tmp_path, "scorer", data_hash="f" * 64), tmp_path / "bundle")
    assert made.manifest.data_hash not in ("0" * 64, "f" * 64)
    assert len(made.manifest.data_hash) == 64


def test_token_vectors_must_be_the_same(tmp_path):
    other = changed(tmp_path, "scorer", extras=extras_of("scorer") | {"token_width": 64})
    with pytest.raises(ExportError, match="widths"):
        bundles.make(other, tmp_path / "bundle")


def test_networks_of_another_form_are_refused(tmp_path):
    weights = checkpoint.load(tiny_checkpoints().scorer, "scorer").weights
    narrow = {name: t[..., :3] if t.ndim else t for name, t in weights.items()}
    for fields in ({"weights": narrow}, {"weights": {}}, {"preset": {"depth": 3}}):
        with pytest.raises(CheckpointError, match="train again"):
            bundles.make(changed(tmp_path, "scorer", **fields), tmp_path / "bundle")


@pytest.mark.usefixtures("quick")
def test_a_bundle_that_fails_parity_is_not_written(tmp_path, monkeypatch):
    out = tmp_path / "bundle"

    def fail(*_):
        raise ParityError("rows differ")

    monkeypatch.setattr(parity, "check", fail)
    with pytest.raises(ParityError):
        bundles.make(tiny_checkpoints(), out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_bundle_that_is_too_large_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "MOST_BYTES", 1_000_000)
    with pytest.raises(ExportError, match="limit"):
        bundles.make(tiny_checkpoints(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_networks_are_ready_to_use():
    found = networks.load(**vars(tiny_checkpoints()))
    assert not any(getattr(found, model).training for model in networks.MODELS)
    assert torch.isfinite(found.decoder.head.weight).all()


# ---- figures ---------------------------------------------------------------------------------


def figures_of(path, weights):
    measured = {"real": {"drawings": 7, "nll": 1.25, "subjects": {"cat": 1.0}}}
    tables = {
        "annotated": {"networks": {"decoder": {"weights": weights}}, "figures": measured},
        "conditions": {"networks": {}, "figures": {"runs": 3}},  # of other decoders
    }
    path.write_text(json.dumps({"tables": tables}))
    return path


@pytest.mark.usefixtures("quick")
def test_the_manifest_carries_the_figures_that_it_shipped_with(tmp_path):
    weights = digest(networks.load(**vars(tiny_checkpoints())).decoder)
    figures = figures_of(tmp_path / "f.json", weights)
    made = bundles.make(tiny_checkpoints(), tmp_path / "bundle", figures=figures)
    metrics = core_bundle.load(made.path).manifest.metrics
    assert metrics["annotated.real.nll"] == 1.25
    assert metrics["decoder.steps"] == 0
    assert not [name for name in metrics if "valid" in name or "cat" in name or "runs" in name]


@pytest.mark.usefixtures("quick")
def test_figures_of_other_weights_are_refused(tmp_path):
    figures = figures_of(tmp_path / "f.json", "0" * 16)
    with pytest.raises(ExportError, match="table annotated of"):
        bundles.make(tiny_checkpoints(), tmp_path / "bundle", figures=figures)
    assert not (tmp_path / "bundle").exists()


# ---- the command line --------------------------------------------------------------------------


def arguments(out, sources=None):
    found = vars(sources or tiny_checkpoints())
    options = [word for name, path in found.items() for word in (f"--{name}", str(path))]
    return ["bundle", *options, "--out", str(out)]


@pytest.mark.usefixtures("quick")
def test_the_command_writes_a_bundle(tmp_path):
    out = tmp_path / "bundle"
    words = [*arguments(out), "--version", "1.2.3", "--setting", "temperature=0.5"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["version"] == "1.2.3"
    assert manifest["settings"]["temperature"] == 0.5
    assert str(out) in done.stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--setting", "heat=1"], "there is no setting heat"),
        (["--setting", "prune"], "write NAME=NUMBER"),
        (["--decoder", "nowhere.pt"], "there is no checkpoint nowhere.pt"),
    ],
)
def test_failures_are_one_line_and_a_code(tmp_path, monkeypatch, capsys, extra, message):
    monkeypatch.setattr(sys, "argv", ["hitree-export", *arguments(tmp_path / "bundle"), *extra])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    sources = tiny_checkpoints()
    swapped = replace(sources, decoder=sources.scorer)
    with pytest.raises(CheckpointError, match="expected a decoder"):
        bundles.make(swapped, tmp_path / "bundle")
