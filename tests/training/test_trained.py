"""Trained networks: those that were asked for, as their checkpoints have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bundles import tiny_checkpoints
from hitree_training import checkpoint
from hitree_training.checkpoint import CheckpointError
from hitree_training.trained import MODELS, Trained, network


def test_what_is_not_asked_for_is_missing() -> None:
    found = Trained.load(decoder=tiny_checkpoints().decoder)
    assert found.decoder is not None
    assert not found.decoder.training
    assert (found.generator, found.vocabulary, found.scorer, found.classifier) == (None,) * 4
    assert found.subjects == ()


def test_all_networks_have_the_weights_of_their_checkpoints() -> None:
    sources = tiny_checkpoints()
    found = Trained.load(**vars(sources))
    for model in MODELS:
        weights = checkpoint.load(getattr(sources, model), model).weights
        for name, tensor in getattr(found, model).state_dict().items():
            assert torch.equal(tensor, weights[name]), name
    assert found.vocabulary is not None
    assert found.generator is not None
    assert len(found.vocabulary) == found.generator.words.num_embeddings
    assert len(found.subjects) == 35


@pytest.mark.parametrize("change", [{"weights": {}}, {"preset": {"depth": 3}}])
def test_networks_of_another_form_are_refused(change: dict[str, object]) -> None:
    good = checkpoint.load(tiny_checkpoints().scorer, "scorer")
    with pytest.raises(CheckpointError, match="the scorer is of networks other than"):
        network(replace(good, **change))  # type: ignore[arg-type]  # fields by name
