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
    by = sample.Sampling(max_points=60, max_leaf=20)
    made = sample.draw(model, [request, bare], by)
    for one, leaves in zip(made, ({0, 1}, {0}), strict=True):
        assert len(one.leaves) >= len(one.drawing.strokes)
        assert set(one.leaves) <= leaves
    sample.picture(made).savefig(tmp_path / "samples.png")
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_matching_loss_is_learnt_and_resumed(options: Options) -> None:
    options = replace(options, matching=True)
    train_decoder.train(replace(options, steps=2))
    half = checkpoint.load(options.out, "decoder")
    assert set(half.resume["matching"]) == {"project.weight"}
    checkpoint.save(options.out, replace(half, progress=0.5))
    whole = train_decoder.train(replace(options, steps=4, resume=True))
    assert whole.extras["matching"]
    assert not torch.equal(
        whole.resume["matching"]["project.weight"], half.resume["matching"]["project.weight"]
    )


def test_begins_from_the_weights_of_another_run(options: Options, tmp_path: Path) -> None:
    first = train_decoder.train(replace(options, steps=3))
    other = replace(options, out=tmp_path / "other.pt", begin=options.out, rate=0.0)
    second = train_decoder.train(other)
    assert second.step == 1  # a schedule of its own
    for name, weight in second.weights.items():
        assert torch.equal(weight, first.weights[name])


def test_held_out_subjects_are_not_seen(options: Options) -> None:
    made = train_decoder.train(replace(options, without=frozenset({"spider"})))
    assert made.extras["subjects"] == ["cat", "flamingo"]
