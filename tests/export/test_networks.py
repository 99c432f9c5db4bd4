"""Networks out of a bundle are the networks that went in, bit for bit."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from bundles import tiny_bundle, tiny_checkpoints
from hitree_export import __main__ as cli
from hitree_export import networks
from hitree_export.graphs import ExportError
from hitree_training import checkpoint
from hitree_training.trained import MODELS, Trained


@pytest.mark.parametrize("model", MODELS)
def test_weights_survive_bit_for_bit(model):
    before = Trained.load(**vars(tiny_checkpoints()))
    after = networks.of_bundle(tiny_bundle())
    ours, theirs = (getattr(one, model).state_dict() for one in (before, after))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert theirs[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_what_networks_read_survives():
    before = Trained.load(**vars(tiny_checkpoints()))
    after = networks.of_bundle(tiny_bundle())
    assert after.vocabulary.to_json() == before.vocabulary.to_json()
    assert after.subjects == before.subjects
    assert after.decoder.scale == before.decoder.scale


def test_a_bundle_without_named_weights_is_refused():
    bundle = tiny_bundle()
    old = replace(bundle, manifest=replace(bundle.manifest, presets={}))
    with pytest.raises(ExportError, match="export its checkpoints again"):
        networks.of_bundle(old)


def test_the_command_writes_checkpoints_to_go_on_from(tmp_path):
    words = ["checkpoints", "--bundle", str(tiny_bundle().path), "--out", str(tmp_path)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    for model in MODELS:
        found = checkpoint.load(tmp_path / f"{model}.pt", model)
        before = checkpoint.load(getattr(tiny_checkpoints(), model), model)
        assert found.preset == before.preset
        assert found.resume == {}
        assert found.data_hash == before.data_hash
        assert all(torch.equal(found.weights[n], t) for n, t in before.weights.items())
