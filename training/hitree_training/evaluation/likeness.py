"""How much drawings differ, from one another and from the training drawings.

A decoder that replays its demonstrations would be recognised, too. So drawings are compared as
pictures: fitted to the frame, blurred, and normalised. Held-out drawings tell what to expect of
somebody who has never seen the training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: JSON

import numpy as np
import torch
from torch.nn import functional

from hitree_training.models.classifier import pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from hitree.drawing import Drawing
    from hitree_training.data import Example

    BySubject = Mapping[str, Sequence[Drawing]]

CELLS = 32  # a side of the pictures that are compared
BLURS = 2  # 3 x 3 means: lines that lie a cell apart still meet
CLOSE = 5  # percentile of held-out drawings' distances, from which a drawing is called a copy
POOL = 500  # sampled training drawings of a subject that are compared with; all others are


def likeness(
    rows: Mapping[str, BySubject], held_out: Mapping[str, BySubject], train: Sequence[Example]
) -> dict[str, Any]:
    """How much each row's drawings differ from one another and from training drawings.

    Per row, means over its subjects; ``of_real`` and ``of_drawn`` are ratios to held-out drawings
    over the subjects that both have. ``copies`` is the share of drawings that lie nearer to a
    training drawing than 95 % of held-out real and drawn drawings do (of these, 5 % by
    construction).
    """
    known = {subject: looks(own) for subject, own in training(train).items()}
    seen = {
        name: {
            subject: _compared(looks(own), known[subject])
            for subject, own in row.items()
            if subject in known
        }
        for name, row in {**rows, **held_out}.items()
    }
    references = [name for name in ("real", "drawn") if name in held_out]
    far = [one.nearest for name in references for one in seen[name].values()]
    close = float(np.percentile(torch.cat(far).numpy(), CLOSE)) if far else 0.0
    table: dict[str, Any] = {}
    for name, row in seen.items():
        every = torch.cat([one.nearest for one in row.values()])
        table[name] = {
            "spread": _mean([one.spread for one in row.values() if one.spread is not None]),
            "nearest": _mean([float(one.nearest.mean()) for one in row.values()]),
            "copies": float((every < close).float().mean()),
            **{f"of_{other}": _ratios(row, seen[other]) for other in references},
        }
    return table


@dataclass(frozen=True)
class _Compared:
    """The drawings of one subject in one row."""

    spread: float | None  # mean distance of two of them; None: there is one only
    nearest: Tensor  # (N,) distance of each to the nearest training drawing


def _compared(own: Tensor, known: Tensor) -> _Compared:
    return _Compared(spread(own) if len(own) > 1 else None, nearest(own, known))


def _ratios(
    row: Mapping[str, _Compared], other: Mapping[str, _Compared]
) -> dict[str, float | None]:
    """Spread and distance to training drawings, relative to another row's."""
    both = [(row[s], other[s]) for s in row.keys() & other.keys()]
    return {
        "spread": _ratio([(a.spread, b.spread) for a, b in both if a.spread and b.spread]),
        "nearest": _ratio([(float(a.nearest.mean()), float(b.nearest.mean())) for a, b in both]),
    }


def _ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Of the sums of both sides; None where there is nothing."""
    below = sum(b for _, b in pairs)
    return sum(a for a, _ in pairs) / below if below else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def training(examples: Sequence[Example]) -> dict[str, list[Drawing]]:
    """The training drawings of each subject; of sampled ones the first `POOL`."""
    found: dict[str, list[Drawing]] = {}
    sampled: dict[str, int] = {}
    for example in examples:
        if example.kind == "sampled":
            sampled[example.subject] = sampled.get(example.subject, 0) + 1
            if sampled[example.subject] > POOL:
                continue
        found.setdefault(example.subject, []).append(example.drawing)
    return found


def looks(drawings: Sequence[Drawing]) -> Tensor:
    """Drawings as blurred pictures of unit norm: (N, 1, CELLS, CELLS)."""
    images = pictures(drawings, CELLS)
    for _ in range(BLURS):
        images = functional.avg_pool2d(images, 3, stride=1, padding=1)
    return images / images.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def spread(own: Tensor) -> float:
    """The mean distance of two different ones of ``own`` (N, 1, G, G), N >= 2."""
    apart = _distances(own, own)  # (N, N), zeros on the diagonal
    return float(apart.sum()) / (len(own) * (len(own) - 1))


def nearest(own: Tensor, known: Tensor) -> Tensor:
    """The distance of each of ``own`` (N, 1, G, G) to the nearest, maybe mirrored, known one."""
    return torch.minimum(
        _distances(own, known).amin(dim=1), _distances(own.flip(-1), known).amin(dim=1)
    )


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) of pictures of unit norm; 0 to the root of 2."""
    cosines = a.flatten(1) @ b.flatten(1).T
    found = (2 - 2 * cosines).clamp(min=0).sqrt()
    return found.fill_diagonal_(0.0) if a is b else found
