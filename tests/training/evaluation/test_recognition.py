"""Recognition and likeness on drawings whose figures are known; and the whole on tiny networks."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bundles import tiny_checkpoints
from hitree.drawing import Drawing
from hitree.text import Vocabulary
from hitree_training import data, decode
from hitree_training.data import DataError
from hitree_training.evaluation import likeness, planned, recognition
from hitree_training.evaluation.planned import Expansion, Planning
from hitree_training.evaluation.recognition import Judge, Options
from hitree_training.sample import Request, Sample, Sampling
from hitree_training.trained import Trained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree_training.data import Example

FLAT = Drawing.of([[[0, 128], [255, 128]]])
UPRIGHT = Drawing.of([[[128, 0], [128, 255]]])
FALLING = Drawing.of([[[0, 0], [255, 255]]])
RISING = Drawing.of([[[0, 255], [255, 0]]])


def widest(images: torch.Tensor) -> torch.Tensor:
    """Sees a fish where ink lies side by side, a tree where it stands, and no bird ever."""
    ink = (images[:, 0] > 0).float()  # (B, G, G)
    wide, tall = ink.amax(dim=1).sum(dim=1), ink.amax(dim=2).sum(dim=1)
    return torch.stack([torch.zeros(len(images)), wide, tall + 0.5], dim=1)


JUDGE = Judge(widest, ("bird", "fish", "tree"), 16)


def example(drawing: Drawing, subject: str = "fish", kind: data.Kind = "drawn") -> Example:
    return data.Example("key", subject, "train", kind, drawing, (), None)


def test_the_mean_is_over_subjects_and_errors_are_named() -> None:
    row = {"bird": [FLAT], "fish": [FLAT, FLAT, FLAT, UPRIGHT]}
    found = recognition.recognised(JUDGE, row, np.random.default_rng(0))
    assert found["mean"] == (0 + 0.75) / 2
    assert found["drawings"] == 5
    assert found["subjects"]["bird"] == {"drawings": 1, "right": 0.0, "taken_for": {"fish": 1}}
    assert found["subjects"]["fish"]["taken_for"] == {"tree": 1}
    # Birds are always wrong, and fishes right 0 to 4 times of 4.
    assert 0 <= found["low"] < 0.375 < found["high"] <= 0.5


def test_what_is_certain_has_no_interval() -> None:
    found = recognition.recognised(JUDGE, {"tree": [UPRIGHT] * 3}, np.random.default_rng(0))
    assert (found["low"], found["mean"], found["high"]) == (1.0, 1.0, 1.0)


def test_drawings_alike_have_no_spread_and_others_some() -> None:
    assert likeness.spread(likeness.looks([FLAT, FLAT, FLAT])) == pytest.approx(0, abs=1e-3)
    crossing = likeness.looks([FLAT, UPRIGHT])
    both = likeness.spread(crossing)
    assert 0.8 < both < 2**0.5
    # Of three pairs, one is alike.
    three = likeness.spread(likeness.looks([FLAT, UPRIGHT, UPRIGHT]))
    assert three == pytest.approx(both * 2 / 3, abs=1e-3)


def test_a_mirrored_copy_is_a_copy() -> None:
    found = likeness.nearest(likeness.looks([RISING, FLAT]), likeness.looks([FALLING, UPRIGHT]))
    assert found[0] == pytest.approx(0, abs=1e-2)
    assert found[1] > 0.5


def test_a_shaken_line_lies_nearer_than_another_one() -> None:
    shaken = Drawing.of([[[0, 128], [100, 136], [255, 128]]])
    near, far = likeness.nearest(likeness.looks([shaken, UPRIGHT]), likeness.looks([FLAT]))
    assert near < 0.5 * far


def test_a_row_that_replays_the_training_set_is_told_by_its_copies() -> None:
    train = [example(FLAT), example(UPRIGHT), example(FLAT, "bird")]
    held_out = {"real": {"fish": [FALLING, Drawing.of([[[0, 0], [255, 100]]])]}}
    rows = {"replayed": {"fish": [FLAT, UPRIGHT], "whale": [FLAT]}}
    found = likeness.likeness(rows, held_out, train)
    assert found["replayed"]["copies"] == 1.0
    assert found["replayed"]["nearest"] == pytest.approx(0, abs=1e-2)
    assert found["replayed"]["of_real"]["nearest"] == pytest.approx(0, abs=1e-2)
    assert found["replayed"]["of_real"]["spread"] > 1  # a cross is wider than two falling lines
    assert found["real"]["of_real"] == {"spread": 1.0, "nearest": 1.0}
    assert found["real"]["copies"] == 0.5  # of two, the nearer one is below the percentile


def test_of_sampled_training_drawings_the_first_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "POOL", 2)
    train = [
        *[example(FLAT, kind="sampled")] * 5,
        example(RISING, kind="real"),
        example(UPRIGHT, "tree", "sampled"),
    ]
    assert likeness.training(train) == {"fish": [FLAT, FLAT, RISING], "tree": [UPRIGHT]}


def test_failures_show_the_worst_subject_first_and_what_it_was_taken_for() -> None:
    def drawn(subject: str, drawing: Drawing) -> Sample:
        request = Request(subject, f"draw a {subject}", ("draw a line",))
        return Sample(request, drawing, (0,))

    samples = [drawn("tree", FLAT), drawn("fish", FLAT), *[drawn("bird", UPRIGHT)] * 2]
    titles = [axes.get_title() for axes in recognition.failures(JUDGE, samples).axes]
    assert [title.splitlines()[0] for title in titles] == [
        *["bird, taken for tree (2 wrong)"] * 2,
        "tree, taken for fish (1 wrong)",
    ]
    assert titles[0].splitlines()[1:] == ["draw a line"]


# ---- the whole, on tiny networks ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained.load(**vars(tiny_checkpoints()))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings of two subjects, and a few points of each that is drawn."""
    load = data.load

    def some(folder: None, **which: Sequence[str]) -> list[Example]:
        return [e for e in load(folder, **which) if e.subject in ("cat", "owl")][:30]

    monkeypatch.setattr(data, "load", some)
    monkeypatch.setattr(recognition, "Sampling", lambda **by: Sampling(max_points=12, **by))


@pytest.mark.usefixtures("small")
def test_all_rows_are_measured(trained: Trained) -> None:
    few = replace(trained, classifier=None)
    with pytest.raises(DataError, match="--classifier"):
        recognition.measure(few, Options(None))
    found, drawn = recognition.measure(trained, Options(None, drawings=2))
    assert json.loads(json.dumps(found)) == found
    assert set(found["recognised"]) == {"sampled plans", "annotated plans", "drawn"}
    assert set(found["likeness"]) == set(found["recognised"])
    assert len(drawn) == found["recognised"]["sampled plans"]["drawings"] == 70
    assert found["recognised"]["annotated plans"]["subjects"].keys() == {"cat", "owl"}
    assert found["temperature"] == 0.3


def test_what_is_missing_is_named(trained: Trained) -> None:
    for network in ("generator", "scorer"):
        less = replace(trained, **{network: None})
        with pytest.raises(DataError, match=f"--{network}"):
            recognition.plans(less, ["cat"], Options(None))
    less = replace(trained, decoder=None)
    with pytest.raises(DataError, match="--decoder"):
        recognition.draw(less, [Request("cat", "draw a cat", ())], Options(None))


def test_a_decoder_that_would_rather_end_draws_something_first(trained: Trained) -> None:
    decoder = copy.deepcopy(trained.decoder)
    with torch.no_grad():
        decoder.head.bias[-2] = 50.0  # of the pen's end
    hasty = replace(trained, decoder=decoder)
    found = recognition.draw(hasty, [Request("cat", "draw a cat", ())] * 3, Options(None))
    assert [one.drawing.points for one in found] == [1, 1, 1]


# ---- plans -------------------------------------------------------------------------------------


class Writer:
    """A generator's stand-in whose plans are scripted."""

    def __init__(self, texts: Sequence[tuple[str, ...]]) -> None:
        self.texts = texts

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(np.array([1.0, 0.0], np.float32), (len(texts), 1))


def test_of_sampled_plans_the_best_sound_one_is_taken() -> None:
    class Fixed(Planning):
        embed = Writer.embed

    planning = Fixed(None, Vocabulary(()), None)
    good = Expansion(("draw the body", "add a head", "add two ears"), -0.9)
    better = Expansion(("draw the head", "add a body", "put two ears on top"), -0.5)
    stammers = Expansion(("draw the the head", "add a body", "add ears"), -0.1)
    foreign = Expansion(("draw the head", "add an owl", "add ears"), -0.1)
    leaf = Expansion((), -0.01)
    found = planning._best("cat", ("cat", "owl"), [good, stammers, better, foreign, leaf])
    assert found == Request("cat", "draw a cat", better.texts)
    assert planning._best("owl", ("cat", "owl"), [leaf]) == Request("owl", "draw an owl", ())


def test_plans_come_by_subject_and_follow_the_seed(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    sample = decode.sample

    def noted(*args: object, **options: object) -> list[decode.Decoded]:
        asked.append((len(args[1]), options["temperature"]))
        return sample(*args, **options)

    monkeypatch.setattr(decode, "sample", noted)
    planning = Planning(trained.generator, trained.vocabulary, trained.scorer)
    found = planning.plans(["cat", "owl"], 3, seed=1)
    assert [one.root for one in found] == ["draw a cat"] * 3 + ["draw an owl"] * 3
    assert found == planning.plans(["cat", "owl"], 3, seed=1)
    assert found != planning.plans(["cat", "owl"], 3, seed=2)
    assert set(asked) == {(2 * planned.EXPANSIONS, planned.TEMPERATURE)}
