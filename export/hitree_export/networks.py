"""The trained networks that make a bundle, from their checkpoints; and back from a bundle.

A bundle's graphs hold every weight under its own name, so that what is served can be measured as a
network, and trained on, without the checkpoints that it was made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: what a checkpoint keeps beside its weights

import onnx
import torch

from hitree.embedding import TokenVectors
from hitree.text import Vocabulary
from hitree_export.graphs import WRAPPERS, ExportError
from hitree_training import checkpoint
from hitree_training.checkpoint import Checkpoint
from hitree_training.trained import MODELS, Trained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from hitree.bundle import Bundle
    from hitree_training.models.classifier import Classifier
    from hitree_training.models.decoder import SketchDecoder
    from hitree_training.models.generator import Generator
    from hitree_training.models.scorer import Scorer

READERS = MODELS[:3]  # of token vectors


@dataclass(frozen=True)
class Networks:
    """Networks that read the same token vectors and know the same subjects, ready to use."""

    decoder: SketchDecoder
    generator: Generator
    scorer: Scorer
    classifier: Classifier  # of ``subjects``, in their order
    vocabulary: Vocabulary  # of the generator
    token_width: int  # E
    subjects: tuple[str, ...]  # that all of them learnt, sorted
    checkpoints: dict[str, Checkpoint]  # by model: where the weights come from


def load(decoder: Path, generator: Path, scorer: Path, classifier: Path) -> Networks:
    """Build the networks of four checkpoints.

    Raises:
        hitree_training.checkpoint.CheckpointError: one is missing, unreadable, or of networks of
            another form.
        ExportError: they do not belong together.
    """
    paths = dict(zip(MODELS, (decoder, generator, scorer, classifier), strict=True))
    found = {model: checkpoint.load(path, model) for model, path in paths.items()}
    widths = {
        model: int(one.extras["token_width"]) for model, one in found.items() if model in READERS
    }
    if len(set(widths.values())) > 1:
        raise ExportError(f"the checkpoints read token vectors of different widths: {widths}")
    return _build(found, widths["decoder"])


def _build(found: dict[str, Checkpoint], width: int) -> Networks:
    made = Trained.of(found)
    if not (made.decoder and made.generator and made.scorer and made.classifier):
        raise ExportError(f"a bundle needs {', '.join(MODELS)}; there are {', '.join(found)}")
    vocabulary = Vocabulary.from_json(found["generator"].extras["vocabulary"])
    subjects = _subjects(found)
    made.classifier.narrow([made.subjects.index(subject) for subject in subjects])
    return Networks(
        made.decoder,
        made.generator,
        made.scorer,
        made.classifier,
        vocabulary,
        width,
        subjects,
        found,
    )


def _subjects(found: dict[str, Checkpoint]) -> tuple[str, ...]:
    """The subjects that all models learnt."""
    common = set.intersection(*(set(one.extras["subjects"]) for one in found.values()))
    if not common:
        raise ExportError("the checkpoints have no subject in common; train them on the same data")
    return tuple(sorted(common))


# ---- back from a bundle --------------------------------------------------------------------------


def of_bundle(bundle: Bundle) -> Trained:
    """The networks whose graphs a bundle holds, bit for bit.

    Raises:
        ExportError: the bundle is of a version that did not name its graphs' weights.
        hitree_training.checkpoint.CheckpointError: its networks are of another form than this
            version's.
    """
    return Trained.of(checkpoints(bundle))


def checkpoints(bundle: Bundle) -> dict[str, Checkpoint]:
    """A bundle's networks as checkpoints without the state of an optimiser, by model.

    Raises:
        ExportError: as for `of_bundle`.
    """
    manifest = bundle.manifest
    if set(manifest.presets) != set(MODELS):
        raise ExportError(
            f"the bundle {manifest.version} was exported before graphs named their weights; "
            "export its checkpoints again"
        )
    return {model: _checkpoint(bundle, model) for model in MODELS}


def _checkpoint(bundle: Bundle, model: str) -> Checkpoint:
    manifest = bundle.manifest
    extras: dict[str, Any] = {
        "token_width": TokenVectors.load(bundle.path).width,
        "subjects": list(manifest.subjects),
    }
    if model == "decoder":
        extras |= {"scale": manifest.scale, "condition": "stack", "matching": False, "seed": 0}
    if model == "generator":
        extras["vocabulary"] = bundle.file("vocabulary.json").read_text(encoding="utf-8")
    return Checkpoint(
        model=model,
        preset=dict(manifest.presets[model]),
        weights=_weights(bundle, model),
        progress=1.0,
        step=int(manifest.metrics.get(f"{model}.steps", 0)),
        data_hash=manifest.data_hash,
        extras=extras,
        git_sha=manifest.git_sha,
        created=manifest.created,
    )


def _weights(bundle: Bundle, model: str) -> dict[str, Tensor]:
    """The weights of a network, from all graphs that hold a part of it."""
    manifest = bundle.manifest
    steps = {"decoder": manifest.decoder.file, "generator": manifest.generator.file}
    parts = [f for name, f in manifest.graphs.items() if _owner(name) == model]
    found: dict[str, Tensor] = {}
    for file in (*parts, *([steps[model]] if model in steps else ())):
        found |= _named(onnx.load(str(bundle.file(file))))
    counters = {  # of batches in training; no graph needs them
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for name in found
        if name.endswith("running_mean")
    }
    return found | counters


def _owner(graph: str) -> str:
    """The model that a feed-forward graph is a part of, by its name."""
    return "decoder" if graph == "condition" else graph.partition("_")[0]


def _named(model: onnx.ModelProto) -> dict[str, Tensor]:
    """The weights of a graph under their network's own names."""
    raw = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:  # of equal weights a graph holds one, and says so
        if node.op_type == "Identity" and node.input[0] in raw:
            raw[node.output[0]] = raw[node.input[0]]
    found = {}
    for name, value in raw.items():
        first, _, rest = name.partition(".")
        found[rest if first in WRAPPERS else name] = torch.from_numpy(value.copy())
    return found
