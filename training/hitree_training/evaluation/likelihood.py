"""How likely held-out drawings are under a sketch decoder, and under Google's decoders.

As in the talk, what a decoder is told of a drawing is the instruction tree inferred from it, cut
down to the condition that is measured: the subject alone, the root as well, or the whole stacks.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any  # Any: JSON

import numpy as np
import torch

from hitree_training import checkpoint, sample, train_decoder
from hitree_training.data import DataError
from hitree_training.evaluation.bootstrap import RESAMPLES, interval
from hitree_training.sequences import NO_AUGMENTATION, Sequences, tree_view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hitree.tree import Node
    from hitree_training.data import Example, Kind
    from hitree_training.models.decoder import SketchDecoder
    from hitree_training.sequences import Condition

    Floats = NDArray[np.float64]

CONDITIONS: tuple[Condition, ...] = ("none", "root", "stack")
BATCH = 64  # drawings

# Google's decoders of these subjects give their own training class implausible likelihoods (see
# the data's README); a comparison with them says nothing.
BROKEN = frozenset({"ant", "butterfly", "elephant", "flamingo", "hedgehog", "rhinoceros"})


@dataclass(frozen=True)
class Pixels:
    """What one drawing of N points costs, in nats, with densities per square unit.

    N - 1 offsets (the placement is left out) and N pen states, the end included.
    """

    points: int  # N
    offsets: float  # summed
    pen: float  # summed

    @property
    def per_point(self) -> float:
        """The sum, per point."""
        return (self.offsets + self.pen) / self.points


def figures(
    model: SketchDecoder,
    examples: Sequence[Example],
    trees: Mapping[str, Node],
    condition: Condition,
) -> dict[str, float]:
    """The NLL of drawings of one kind, with what `hitree_training.train_decoder.Figures` tells.

    Raises:
        DataError: a drawing has no tree in ``trees``.
    """
    sequences = Sequences(examples, condition, trees, tree_view)
    return {"drawings": len(examples), **asdict(train_decoder.evaluate(model, sequences))}


def runs(
    checkpoints: Sequence[Path],
    examples: Mapping[Kind, Sequence[Example]],
    trees: Mapping[str, Node],
) -> list[dict[str, Any]]:
    """A row for every trained decoder, measured under the condition that it was trained under.

    Subjects that a decoder was trained without are measured apart, as ``unseen``.
    """
    return [_run(path, examples, trees) for path in checkpoints]


def _run(
    path: Path, examples: Mapping[Kind, Sequence[Example]], trees: Mapping[str, Node]
) -> dict[str, Any]:
    found, model = checkpoint.load(path, "decoder"), sample.load(path)
    condition, known = found.extras["condition"], set(found.extras["subjects"])
    row: dict[str, Any] = {
        "condition": condition,
        "matching": found.extras["matching"],
        "seed": found.extras["seed"],
        "steps": found.step,
        "data_hash": found.data_hash,
        "seen": {},
        "unseen": {},
    }
    for kind, every in examples.items():
        for side, wanted in (("seen", True), ("unseen", False)):
            some = [example for example in every if (example.subject in known) == wanted]
            if some:
                row[side][kind] = figures(model, some, trees, condition)
    return row


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs that differ in their seed alone, as one row: the mean NLL, least and most of each."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["condition"], row["matching"], sorted(row["unseen"]), row["data_hash"])
        groups.setdefault(json.dumps(key), []).append(row)
    return [_summed(group) for group in groups.values()]


def _summed(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {name: group[0][name] for name in ("condition", "matching", "steps")}
    made["seeds"] = [row["seed"] for row in group]
    for side in ("seen", "unseen"):
        made[side] = {}
        for kind in group[0][side]:
            values = [row[side][kind]["nll"] for row in group]
            made[side][kind] = {
                "drawings": group[0][side][kind]["drawings"],
                "nll": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
            }
    return made


@torch.inference_mode()
def pixels(
    model: SketchDecoder,
    examples: Sequence[Example],
    trees: Mapping[str, Node],
    condition: Condition,
) -> dict[str, Pixels]:
    """What every drawing costs, by ``key_id``."""
    sequences = Sequences(examples, condition, trees, tree_view)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Pixels] = {}
    for index in torch.split(sequences.lengths.argsort(), BATCH):
        batch = sequences.batch(index, generator, NO_AUGMENTATION)
        scored = train_decoder.score(model, batch)
        points = batch.valid[:, 1:].sum(dim=1)  # (B,) N: rows but the placement, the end included
        # A density of scaled offsets is one of units, divided by scale squared.
        units = 2 * math.log(model.scale) * (points - 1)
        offsets = scored.offset[:, 1:].sum(dim=1) + units
        pen = scored.pen[:, 1:].sum(dim=1)
        for i, *values in zip(index.tolist(), points, offsets, pen, strict=True):
            found[examples[i].key_id] = Pixels(int(values[0]), float(values[1]), float(values[2]))
    return found


def read_reference(path: Path) -> dict[str, Pixels]:
    """What Google's decoder of each drawing's subject gives it, by ``key_id``.

    ``google_sketchrnn_nll.csv``: ``key_id, word, points, offset_nll_px, pen_nll``.

    Raises:
        DataError: there is no such file, or it lacks a column.
    """
    if not path.is_file():
        raise DataError(f"there is no reference {path}")
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return {
                row["key_id"]: Pixels(
                    int(row["points"]), float(row["offset_nll_px"]), float(row["pen_nll"])
                )
                for row in csv.DictReader(file)
            }
        except (KeyError, ValueError) as exc:
            raise DataError(f"{path} is no reference: {exc!r}") from exc


def compare(
    ours: Mapping[str, Pixels],
    theirs: Mapping[str, Pixels],
    subjects: Mapping[str, str],
    seed: int = 0,
) -> dict[str, Any]:
    """Ours minus theirs, paired by drawing, in nats per point; ``subjects`` by ``key_id``.

    ``macro`` is the mean over the sound subjects of each subject's mean over its drawings,
    ``micro`` the mean over all their drawings. Intervals are percentiles of a bootstrap: over
    subjects, and drawings within them, for the one, over drawings for the other.

    Raises:
        DataError: a drawing is missing from a side, or its number of points differs.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for key, subject in sorted(subjects.items()):
        if key not in ours or key not in theirs or ours[key].points != theirs[key].points:
            raise DataError(f"drawing {key} is not the same one in the reference")
        rows.setdefault(subject, []).append((ours[key].per_point, theirs[key].per_point))
    table = {
        subject: {
            "drawings": len(pairs),
            "ours": float(np.mean([a for a, _ in pairs])),
            "google": float(np.mean([b for _, b in pairs])),
            "sound": subject not in BROKEN,
        }
        for subject, pairs in rows.items()
    }
    sound = [np.array(rows[s]) @ (1, -1) for s in sorted(rows) if s not in BROKEN]
    return {"subjects": table, "seed": seed, **_means(sound, np.random.default_rng(seed))}


def _means(groups: list[Floats], rng: np.random.Generator) -> dict[str, Any]:
    """Both means of differences, one array a subject, with their intervals."""
    if not groups:
        return {"macro": None, "micro": None}
    every = np.concatenate(groups)
    macro = [
        np.mean([_again(groups[g], rng).mean() for g in rng.integers(0, len(groups), len(groups))])
        for _ in range(RESAMPLES)
    ]
    micro = [_again(every, rng).mean() for _ in range(RESAMPLES)]
    return {
        "macro": _estimate(float(np.mean([group.mean() for group in groups])), macro),
        "micro": _estimate(float(every.mean()), micro),
        "ahead": sum(float(group.mean()) < 0 for group in groups),
        "of": len(groups),
    }


def _again(values: Floats, rng: np.random.Generator) -> Floats:
    return values[rng.integers(0, len(values), len(values))]


def _estimate(value: float, samples: Sequence[np.floating[Any]]) -> dict[str, float]:
    low, high = interval(samples).tolist()
    return {"mean": value, "low": low, "high": high}
