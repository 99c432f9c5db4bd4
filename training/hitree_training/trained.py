"""Trained networks, whatever there is of them: what the evaluation measures.

Checkpoints and a bundle give the same object, so that one evaluation serves both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from hitree.text import Vocabulary
from hitree_training import checkpoint
from hitree_training.checkpoint import CheckpointError
from hitree_training.models.classifier import Classifier, ClassifierPreset
from hitree_training.models.decoder import DecoderPreset, SketchDecoder
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.models.judge import Judge, JudgePreset
from hitree_training.models.scorer import Scorer, ScorerPreset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from hitree_training.checkpoint import Checkpoint

MODELS = ("decoder", "generator", "scorer", "classifier")


@dataclass(frozen=True)
class Trained:
    """Networks in evaluation mode; what was not asked for is None."""

    decoder: SketchDecoder | None = None
    generator: Generator | None = None
    vocabulary: Vocabulary | None = None  # of the generator
    scorer: Scorer | None = None
    classifier: Classifier | None = None
    subjects: tuple[str, ...] = ()  # of the classifier's logits, in their order

    @classmethod
    def load(
        cls,
        *,
        decoder: Path | None = None,
        generator: Path | None = None,
        scorer: Path | None = None,
        classifier: Path | None = None,
    ) -> Self:
        """Read the checkpoints that are given.

        Raises:
            CheckpointError: one is missing, unreadable, or of networks of another form.
        """
        paths = dict(zip(MODELS, (decoder, generator, scorer, classifier), strict=True))
        return cls.of({m: checkpoint.load(path, m) for m, path in paths.items() if path})

    @classmethod
    def of(cls, found: Mapping[str, Checkpoint]) -> Self:
        """Build the networks of checkpoints, by model.

        Raises:
            CheckpointError: weights or presets are of networks of another form.
        """
        parts: dict[str, nn.Module] = {m: network(one) for m, one in found.items()}
        words = found["generator"].extras["vocabulary"] if "generator" in found else None
        told = found["classifier"].extras["subjects"] if "classifier" in found else ()
        return cls(
            **parts,  # type: ignore[arg-type]  # by their models' names
            vocabulary=Vocabulary.from_json(words) if words else None,
            subjects=tuple(told),
        )


def network(found: Checkpoint) -> nn.Module:
    """The network of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: its weights or its preset are of a network of another form.
    """
    try:
        made = _new(found)
        made.load_state_dict(found.weights)
    except (ValidationError, RuntimeError) as exc:
        raise CheckpointError(
            f"the {found.model} is of networks other than this version's: {exc}; train again"
        ) from exc
    return made.eval()


def _new(found: Checkpoint) -> nn.Module:
    preset, extras = found.preset, found.extras
    if found.model == "classifier":
        return Classifier(ClassifierPreset(**preset), subjects=len(extras["subjects"]))
    width: int = extras["token_width"]
    if found.model == "decoder":
        return SketchDecoder(DecoderPreset(**preset), token_width=width, scale=extras["scale"])
    if found.model == "scorer":
        return Scorer(ScorerPreset(**preset), token_width=width)
    if found.model == "judge":
        return Judge(JudgePreset(**preset), token_width=width)
    return Generator(
        GeneratorPreset(**preset),
        token_width=width,
        vocabulary=len(Vocabulary.from_json(extras["vocabulary"])),
        subjects=len(extras["subjects"]),
    )


def digest(network: nn.Module) -> str:
    """A hash of a network's weights: the same for a checkpoint's and its bundle's."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not name.endswith("num_batches_tracked"):  # of training; no figure depends on it
            found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
