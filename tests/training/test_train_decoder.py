"""Training the decoder on the built-in set: it learns, it can be stopped and go on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hitree_training import checkpoint, presets, sample, train_decoder
from hitree_training.models.decoder import DecoderPreset
from hitree_training.train_decoder import Options

TINY = presets.load(DecoderPreset, "decoder-tiny")


@pytest.fixture
def options(small_data: Path, tmp_path: Path) -> Options:
    out = tmp_path / "decoder.pt"
    return Options(small_data, out, TINY, minutes=None, steps=1, batch=16, seed=3)


def test_learns_and_describes_itself(options: Options) -> None:
    first = train_decoder.train(replace(options, steps=4))
    later = train_decoder.train(replace(options, steps=40))
    for kind, figures in later.extras["valid"].items():
        assert figures["nll"] < first.extras["valid"][kind]["nll"] - 0.3

    found = checkpoint.load(options.out, "decoder")
    assert found.step == 40
    assert found.progress == 1
    assert found.data_hash
    assert "flamingo" in found.extras["subjects"]
    assert DecoderPreset(**found.preset) == TINY


def test_resume_goes_on_from_weights_and_progress(options: Options) -> None:
    whole = replace(options, steps=8)
    train_decoder.train(replace(whole, steps=4))
    half = checkpoint.load(whole.out, "decoder")
    checkpoint.save(whole.out, replace(half, progress=0.5))
    resumed = train_decoder.train(replace(whole, resume=True))
    assert resumed.step == 8
    assert resumed.progress == 1
    moved = (resumed.weights["head.bias"] - half.weights["head.bias"]).abs().max()
    assert 0 < moved < 0.1


def test_resume_without_a_checkpoint_says_so(options: Options) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="there is no checkpoint"):
        train_decoder.train(replace(options, resume=True))


def test_checkpoint_of_another_model_is_refused(options: Options) -> None:
    made = train_decoder.train(options)
    checkpoint.save(options.out, replace(made, model="scorer"))
    with pytest.raises(checkpoint.CheckpointError, match="holds a scorer"):
        checkpoint.load(options.out, "decoder")


def test_checkpoint_never_unpickles_code(tmp_path: Path) -> None:
    torch.save({"model": Path("/")}, tmp_path / "decoder.pt")
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / "decoder.pt", "decoder")


def test_samples_have_a_leaf_for_every_stroke(options: Options, tmp_path: Path) -> None:
    train_decoder.train(replace(options, steps=30))
    model = sample.load(options.out)
    request = sample.Request("cat", "draw a cat", ("draw a head", "add two ears"))
    bare = sample.Request("cat", "draw a cat", ())
    made = sample.draw(model, [request, bare], max_points=60, max_leaf=20)
    for one, leaves in zip(made, ({0, 1}, {0}), strict=True):
        assert len(one.leaves) >= len(one.drawing.strokes)
        assert set(one.leaves) <= leaves
    sample.picture(made).savefig(tmp_path / "samples.png")
    assert (tmp_path / "samples.png").stat().st_size > 1000
