"""The classifier trains for real, goes on where it stopped, and is as sure as it is right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from hitree_training import checkpoint, data, presets, train_classifier
from hitree_training.models.classifier import Classifier, ClassifierPreset, pictures
from hitree_training.train_classifier import HeldOut, Options, weights

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_training.checkpoint import Checkpoint
    from hitree_training.data import Example

TINY = presets.load(ClassifierPreset, "classifier-tiny")
SUBJECTS = ("cat", "flamingo", "spider")


def options(folder: Path, out: Path, steps: int = 40) -> Options:
    return Options(folder, out, TINY, None, steps=steps, batch=24, evaluate_every=20)


@pytest.fixture(scope="module")
def trained(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier") / "classifier.pt"
    train_classifier.train(options(small_data, out))
    return out


def test_subjects_are_told_apart(trained: Path) -> None:
    found = checkpoint.load(trained, "classifier").extras
    assert found["subjects"] == list(SUBJECTS)
    assert found["valid"]["accuracy"]["drawn"] > 0.7  # by chance: a third
    assert found["valid"]["loss"] < 0.8  # by chance: 1.1


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    trained: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "classifier.pt"
    save = checkpoint.save

    def save_and_die(path: Path, made: Checkpoint) -> None:
        save(path, made)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train_classifier.train(options(small_data, out))
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = train_classifier.train(replace(options(small_data, out), resume=True))
    whole = checkpoint.load(trained, "classifier")
    assert resumed.extras["valid"] == whole.extras["valid"]
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(resumed.weights[name], tensor, rtol=0, atol=0)


def test_the_network_comes_back_with_its_temperature(trained: Path, small_data: Path) -> None:
    model, subjects = train_classifier.load(trained)
    assert (model.training, subjects, model.size) == (False, SUBJECTS, TINY.size)
    valid = checkpoint.load(trained, "classifier").extras["valid"]
    assert float(model.temperature) == pytest.approx(valid["temperature"])
    held_out = HeldOut(data.load(small_data, splits=("valid",)), subjects, model.size)
    with torch.inference_mode():
        surest = torch.softmax(model(held_out.images), dim=1).amax(dim=1)
    assert float(held_out.mean(surest, "drawn")) == pytest.approx(
        valid["accuracy"]["drawn"], abs=0.15
    )


def test_some_subjects_may_be_kept_in_another_order() -> None:
    model = Classifier(TINY, subjects=5).eval()
    images = torch.rand(2, 1, TINY.size, TINY.size)
    whole = model(images)
    model.narrow([4, 0])
    torch.testing.assert_close(model(images), whole[:, [4, 0]])


def test_pictures_show_small_drawings_as_large_ones() -> None:
    drawing = data.load(None, kinds=("drawn",), splits=("valid",))[0].drawing
    small = type(drawing).of([stroke / 3 + 20 for stroke in drawing.strokes])
    first, second = pictures([drawing, small], 16)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_subjects_weigh_alike_and_kinds_by_worth_and_root(small_data: Path) -> None:
    some = data.load(small_data)
    cats = [e for e in some if e.subject == "cat"][:9]
    owls = [replace(e, subject="owl") for e in some[:5]]
    mixed = [replace(e, kind="real" if i < 4 else "drawn") for i, e in enumerate(owls)]
    found = weights([*cats, *mixed])
    assert float(found[:9].sum()) == pytest.approx(float(found[9:].sum()))
    # Four real drawings of worth 2 and a drawn one of worth 1: roots 2 and 1.
    assert float(found[9:13].sum() / found[13]) == pytest.approx(4.0)


def test_the_best_temperature_makes_wrong_answers_less_sure() -> None:
    class Stubborn(Classifier):
        """Very sure of the first subject, which is right every other time."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([8.0, 0.0]).expand(len(images), 2) / self.temperature

    def example(subject: str) -> Example:
        drawn = data.load(None, kinds=("drawn",), splits=("valid",))[0]
        return replace(drawn, subject=subject)

    valid = HeldOut([example("cat"), example("owl")], ("cat", "owl"), TINY.size)
    found = train_classifier.evaluate(Stubborn(TINY, subjects=2), valid)
    assert found.temperature == pytest.approx(10.0)  # the highest that is tried
    assert found.accuracy == {"drawn": 0.5}
    assert found.loss < 1.0
