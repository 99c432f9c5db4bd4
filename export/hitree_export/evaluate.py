"""Measure a bundle on held-out drawings: ``hitree-export evaluate``.

The graphs stand in for the networks, and the code of ``hitree-train evaluate`` measures them, so
that a bundle's figures are about what is served and compare with the checkpoints' own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast  # Any: JSON

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # has no types
import torch

from hitree import bundle as bundles
from hitree.segments import stroke_features
from hitree.text import Vocabulary
from hitree_training import data, wording
from hitree_training import evaluate as measures
from hitree_training.explain import Explainer
from hitree_training.pairs import token_batch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree.bundle import Bundle
    from hitree_training.data import Example
    from hitree_training.models.generator import Generator
    from hitree_training.models.scorer import Scorer


@dataclass(frozen=True)
class Options:
    """What ``hitree-export evaluate`` was asked for."""

    bundle: Path
    out: Path  # the JSON file
    folder: Path | None = None  # data; None: the built-in set
    split: str = "test"


def evaluate(options: Options) -> dict[str, Any]:
    """Measure a bundle, write the figures to ``options.out`` and return them.

    Raises:
        hitree.errors.BundleError: the bundle is incomplete or corrupt.
        hitree_training.data.DataError: the data set has no drawings of this split.
    """
    bundle = bundles.load(options.bundle)
    explainer = explainer_of(bundle)
    kinds = {}
    for kind in measures.KINDS:
        try:
            examples = data.load(options.folder, kinds=(kind,), splits=(options.split,))
        except data.DataError:
            continue  # the built-in set has no real drawings
        noted = [example for example in examples if example.annotation]
        kinds[kind] = {
            "data_hash": data.data_hash(examples),
            "subject": subject_accuracy(explainer, examples, bundle.manifest.subjects),
            "generator": measures.describe(explainer, noted),
            "trees": measures.trees(explainer, noted),
        }
    if not kinds:
        raise data.DataError(f"there are no {options.split} drawings; choose another --split")
    found = {"bundle": bundle.manifest.version, "split": options.split, "kinds": kinds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = options.out.with_suffix(".part")
    fresh.write_text(json.dumps(found, indent=1) + "\n")
    fresh.replace(options.out)
    return found


def subject_accuracy(
    explainer: Explainer, examples: Sequence[Example], subjects: Sequence[str]
) -> float:
    """The share of drawings whose subject the scorer tells from their strokes."""
    texts = explainer.scorer.texts(*token_batch([wording.root(subject) for subject in subjects]))
    right = 0
    for example in examples:
        strokes = torch.from_numpy(stroke_features(example.drawing))
        whole = explainer.scorer.segments(strokes, torch.tensor([[0, len(strokes)]]))
        right += subjects[int((texts @ whole[0]).argmax())] == example.subject
    return right / len(examples)


def explainer_of(bundle: Bundle) -> Explainer:
    """What explains drawings, with the bundle's graphs in the place of networks."""
    vocabulary = Vocabulary.from_json(bundle.file("vocabulary.json").read_bytes())
    # The graphs have the networks' methods that explaining calls, and none of the others.
    return Explainer(
        cast("Generator", GraphGenerator(bundle)), vocabulary, cast("Scorer", GraphScorer(bundle))
    )


class GraphGenerator:
    """The generator's graphs, called like `hitree_training.models.generator.Generator`."""

    def __init__(self, bundle: Bundle) -> None:
        self._describe = _Graph(bundle, bundle.manifest.graphs["generator_describe"])
        self._step = _Graph(bundle, bundle.manifest.generator.file)

    def describe(self, strokes: Tensor, spans: Tensor, subject: Tensor) -> Tensor:
        """Contexts (S, H)."""
        return self._describe(strokes=strokes, spans=spans, subject=subject)[0]

    def step(self, token: Tensor, context: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, V) and the next state (B, H)."""
        log_probs, h = self._step(token=token, context=context, h=h)
        return log_probs, h


class GraphScorer:
    """The scorer's graphs, called like `hitree_training.models.scorer.Scorer`."""

    def __init__(self, bundle: Bundle) -> None:
        self._segments = _Graph(bundle, bundle.manifest.graphs["scorer_segments"])
        self._texts = _Graph(bundle, bundle.manifest.graphs["scorer_texts"])

    def segments(self, strokes: Tensor, spans: Tensor) -> Tensor:
        """Segments (S, D), unit norm."""
        return self._segments(strokes=strokes, spans=spans)[0]

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Instructions (B, D), unit norm."""
        return self._texts(tokens=tokens, mask=mask)[0]


class _Graph:
    """One graph on the CPU, from torch's tensors to torch's tensors."""

    def __init__(self, bundle: Bundle, file: str) -> None:
        path = str(bundle.file(file))
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, **tensors: Tensor) -> list[Tensor]:
        feed = {name: np.ascontiguousarray(t.numpy()) for name, t in tensors.items()}
        return [torch.from_numpy(value) for value in self._session.run(None, feed)]
