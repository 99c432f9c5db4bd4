"""A bundle for tests, made by the real export path within seconds.

Its networks are tiny and untrained, but nudged: the generator writes short lists of instructions,
the decoder draws strokes of some ten points and ends its segments after a few.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hitree.text import Vocabulary
from hitree_export import bundle as bundles
from hitree_training import checkpoint, data, presets
from hitree_training.annotations import read_jsonl
from hitree_training.checkpoint import Checkpoint
from hitree_training.models.classifier import Classifier, ClassifierPreset
from hitree_training.models.decoder import DecoderPreset, SketchDecoder
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.models.scorer import Scorer, ScorerPreset

if TYPE_CHECKING:
    from hitree.bundle import Bundle

VERSION = "0.0.0+tests"
SCALE = 12.0  # units
WORDS = 300  # of the vocabulary: enough to be readable


@cache
def tiny_bundle() -> Bundle:
    """The bundle, made once a process and removed at its end."""
    folder = _folder()
    # Untrained, no segment is worth a node; so there is no threshold to speak of.
    settings = {"prune": -10.0}
    return bundles.make(tiny_checkpoints(), folder / "bundle", label=VERSION, settings=settings)


@cache
def tiny_checkpoints() -> bundles.Sources:
    """The checkpoints that the bundle is made of."""
    folder = _folder()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = {
            "decoder": _decoder(),
            "generator": _generator(),
            "scorer": _scorer(),
            "classifier": _classifier(),
        }
    for model, one in made.items():
        checkpoint.save(folder / f"{model}.pt", one)
    return bundles.Sources(*(folder / f"{model}.pt" for model in made))


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hitree-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _subjects() -> list[str]:
    return sorted(path.stem.replace("_", " ") for path in (data.BUILTIN / "drawn").glob("*.ndjson"))


def _decoder() -> Checkpoint:
    preset = presets.load(DecoderPreset, "decoder-tiny")
    width = data.token_vectors().width
    model = SketchDecoder(preset, token_width=width, scale=SCALE)
    with torch.no_grad():
        # Of the last four: down, up, end; and the segment's end.
        model.head.bias[-4:] = torch.tensor([2.0, 0.0, -3.0, -0.5])
    return _checkpoint("decoder", preset, model, {"scale": SCALE})


def _generator() -> Checkpoint:
    preset = presets.load(GeneratorPreset, "generator-tiny")
    texts = [
        step.text
        for annotation in read_jsonl(data.BUILTIN / "annotations.jsonl").values()
        for step in annotation.steps
    ]
    vocabulary = Vocabulary(Vocabulary.of(texts).entries[:WORDS])
    width = data.token_vectors().width
    model = Generator(preset, token_width=width, vocabulary=len(vocabulary))
    with torch.no_grad():
        model.words.weight.mul_(0.3)
        model.bias[[Vocabulary.SEP, Vocabulary.EOS, Vocabulary.LEAF]] = torch.tensor(
            [2.5, 1.5, 1.0]
        )
    return _checkpoint("generator", preset, model, {"vocabulary": vocabulary.to_json()})


def _scorer() -> Checkpoint:
    preset = presets.load(ScorerPreset, "scorer-tiny")
    return _checkpoint("scorer", preset, Scorer(preset, token_width=data.token_vectors().width), {})


def _classifier() -> Checkpoint:
    preset = presets.load(ClassifierPreset, "classifier-tiny")
    return _checkpoint("classifier", preset, Classifier(preset, subjects=len(_subjects())), {})


def _checkpoint(
    model: str, preset: presets.Preset, network: torch.nn.Module, extras: dict[str, object]
) -> Checkpoint:
    common = {
        "token_width": data.token_vectors().width,
        "subjects": _subjects(),
        "valid": {"drawn": {"nll": 1.5}},
    }
    return Checkpoint(
        model=model,
        preset=preset.model_dump(),
        weights=network.state_dict(),
        progress=1.0,
        step=0,
        data_hash="0" * 64,
        extras=common | extras,
    )
