"""The scorer trains for real and goes on where it stopped; its pairs are what they claim."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from hitree_training import checkpoint, data, presets, train_scorer, triplets, wording
from hitree_training.models.scorer import Scorer, ScorerPreset
from hitree_training.pairs import PairBatch, Pairs, token_batch
from hitree_training.train_scorer import Options

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_training.checkpoint import Checkpoint

TINY = presets.load(ScorerPreset, "scorer-tiny")


def options(folder: Path, out: Path, steps: int = 40) -> Options:
    return Options(
        folder, out, TINY, None, steps=steps, batch=12, bulk=12, rate=5e-3, evaluate_every=20
    )


@pytest.fixture(scope="module")
def trained(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scorer") / "scorer.pt"
    train_scorer.train(options(small_data, out))
    return out


@pytest.fixture
def pairs(small_data: Path) -> Pairs:
    return Pairs(data.load(small_data, kinds=("drawn",)), {"drawn": 1.0}, "reading")


def batch(pairs: Pairs, *, augment: bool = False) -> PairBatch:
    generator = torch.Generator().manual_seed(1)
    return pairs.batch(torch.tensor([0, 40, 90, 1]), generator, augment=augment)


def test_the_loss_falls_and_pairs_are_told_apart(
    trained: Path, small_data: Path, tmp_path: Path
) -> None:
    early = train_scorer.train(options(small_data, tmp_path / "s.pt", steps=1)).extras["valid"]
    late = checkpoint.load(trained, "scorer").extras["valid"]
    assert late["triplets"] < 0.85 * early["triplets"]
    assert late["unity"] < 0.85 * early["unity"]
    assert late["step"] > early["step"]
    assert late["subject"] > 0.6


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    trained: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scorer.pt"
    save = checkpoint.save

    def save_and_die(path: Path, made: Checkpoint) -> None:
        save(path, made)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train_scorer.train(options(small_data, out))
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = train_scorer.train(replace(options(small_data, out), resume=True))
    whole = checkpoint.load(trained, "scorer")
    assert resumed.extras["valid"] == whole.extras["valid"]
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(resumed.weights[name], tensor, rtol=0, atol=0)


def test_the_network_comes_back_ready_to_score(trained: Path) -> None:
    model = train_scorer.load(trained)
    assert not model.training
    assert model.segments(torch.randn(3, 32, 4), torch.tensor([[0, 3]])).shape == (1, TINY.space)


def test_spans_lie_within_their_drawings_and_whole_ones_are_marked(pairs: Pairs) -> None:
    found = batch(pairs)
    assert (found.spans[:, 0] >= found.bounds[:, 0]).all()
    assert (found.spans[:, 1] <= found.bounds[:, 1]).all()
    assert len(found.spans) > len(found.bags) == len(found.whole)
    assert int(found.whole.sum()) >= 8  # the root and all steps together, four times
    assert (found.bags.sum(dim=1) >= 1).all()


def test_a_span_never_has_to_differ_from_itself(pairs: Pairs) -> None:
    found = batch(pairs)
    tokens, mask = token_batch(found.texts)
    within, across = triplets._differ(found, tokens, mask)
    count = len(found.bags)
    assert within.diagonal().sum() == across.diagonal().sum() == 0
    assert torch.equal(within[:, :count], within[:, :count].T)
    assert across[:, count:].sum() == 0  # bent spans are wrong in their own drawing only
    same_subject = found.whole[:, None] & found.whole
    same_subject &= found.subject[:, None] == found.subject
    assert (across[:, :count] * same_subject).sum() == 0


def test_mirrored_drawings_have_mirrored_texts(pairs: Pairs) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(60)
    mirrored = pairs.strokes.batch(index, torch.Generator().manual_seed(0)).mirrored
    found = pairs.batch(index, generator, augment=True)
    assert 10 < int(mirrored.sum()) < 50
    for b in torch.nonzero(mirrored)[:, 0].tolist():
        annotation = pairs.examples[b].annotation
        assert annotation is not None
        for step in annotation.steps:
            assert wording.mirror(step.text) in found.texts


def test_triplets_vanish_where_every_text_lies_on_its_segment() -> None:
    class Perfect(Scorer):
        """Puts segment and text p on axis p."""

        def segments(self, *_: object) -> torch.Tensor:
            return torch.eye(3)

        def texts(self, *_: object) -> torch.Tensor:
            return torch.eye(3)

    spans = torch.tensor([[0, 1], [1, 2], [2, 3]])
    made = PairBatch(
        strokes=torch.zeros(3, 32, 4),
        spans=spans,
        bounds=torch.tensor([[0, 3]] * 3),
        texts=("draw a head", "add two ears", "give it a tail"),
        bags=torch.eye(3),
        drawing=torch.zeros(3, dtype=torch.int64),
        subject=torch.zeros(3, dtype=torch.int64),
        whole=torch.zeros(3, dtype=torch.bool),
    )
    model = Perfect(TINY, token_width=data.token_vectors().width)
    assert float(triplets.loss(model, made)) == 0.0
    wrong = replace(made, bags=torch.eye(3).roll(1, dims=0))
    assert float(triplets.loss(model, wrong)) > 1.0


def test_kept_towers_stay_as_they_are_while_unity_is_trained(
    trained: Path, small_data: Path, tmp_path: Path
) -> None:
    asked = replace(options(small_data, tmp_path / "scorer.pt", steps=20), towers=trained, seed=3)
    before, after = checkpoint.load(trained, "scorer"), train_scorer.train(asked)
    for name, tensor in before.weights.items():
        if not name.startswith("steps."):
            torch.testing.assert_close(after.weights[name], tensor, rtol=0, atol=0)
    name = "steps.posts.weight"
    assert not torch.equal(before.weights[name], after.weights[name])
    assert after.extras["valid"]["triplets"] == before.extras["valid"]["triplets"]
