"""The trained networks that make a bundle, from their checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from hitree.text import Vocabulary
from hitree_export.graphs import ExportError
from hitree_training import checkpoint
from hitree_training.models.decoder import DecoderPreset, SketchDecoder
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.models.scorer import Scorer, ScorerPreset

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_training.checkpoint import Checkpoint

MODELS = ("decoder", "generator", "scorer")


@dataclass(frozen=True)
class Networks:
    """Three networks that read the same token vectors, in evaluation mode."""

    decoder: SketchDecoder
    generator: Generator
    scorer: Scorer
    vocabulary: Vocabulary  # of the generator
    token_width: int  # E
    checkpoints: dict[str, Checkpoint]  # by model: where the weights come from


def load(decoder: Path, generator: Path, scorer: Path) -> Networks:
    """Build the networks of three checkpoints.

    Raises:
        hitree_training.checkpoint.CheckpointError: one is missing or unreadable.
        ExportError: they do not belong together.
    """
    paths = dict(zip(MODELS, (decoder, generator, scorer), strict=True))
    found = {model: checkpoint.load(path, model) for model, path in paths.items()}
    widths = {model: int(one.extras["token_width"]) for model, one in found.items()}
    if len(set(widths.values())) > 1:
        raise ExportError(f"the checkpoints read token vectors of different widths: {widths}")
    try:
        return _build(found, widths["decoder"])
    except (ValidationError, RuntimeError) as exc:  # a preset or weights of another form
        raise ExportError(
            f"a checkpoint is of networks other than this version's: {exc}; train again"
        ) from exc


def _build(found: dict[str, Checkpoint], width: int) -> Networks:
    vocabulary = Vocabulary.from_json(found["generator"].extras["vocabulary"])
    networks = Networks(
        SketchDecoder(
            DecoderPreset(**found["decoder"].preset),
            token_width=width,
            scale=found["decoder"].extras["scale"],
        ),
        Generator(
            GeneratorPreset(**found["generator"].preset),
            token_width=width,
            vocabulary=len(vocabulary),
        ),
        Scorer(ScorerPreset(**found["scorer"].preset), token_width=width),
        vocabulary,
        width,
        found,
    )
    for model in MODELS:
        network = getattr(networks, model)
        network.load_state_dict(found[model].weights)
        network.eval()
    return networks
