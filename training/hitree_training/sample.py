"""Drawings from a decoder checkpoint, and pictures of them: ``hitree-train samples``.

For looking at a training run; what is served draws from the exported step graph instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from hitree import stroke5
from hitree.stroke5 import END, UP
from hitree_training import checkpoint, data, wording
from hitree_training.models.decoder import DecoderPreset, SketchDecoder, initial_state

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

    from hitree.drawing import Drawing

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#333333")


@dataclass(frozen=True)
class Request:
    """What to draw."""

    subject: str
    root: str
    steps: tuple[str, ...]  # texts of the leaves; empty: under the root alone


@dataclass(frozen=True)
class Sample:
    """What was drawn."""

    request: Request
    drawing: Drawing
    leaves: tuple[int, ...]  # the leaf of every stroke


def load(path: Path) -> SketchDecoder:
    """The decoder of a checkpoint, ready to draw."""
    found = checkpoint.load(path, "decoder")
    model = SketchDecoder(
        DecoderPreset(**found.preset),
        token_width=found.extras["token_width"],
        scale=found.extras["scale"],
    )
    model.load_state_dict(found.weights)
    return model.eval()


@torch.inference_mode()
def draw(
    model: SketchDecoder,
    requests: list[Request],
    *,
    temperature: float = 0.5,
    seed: int = 0,
    max_points: int = 250,
    max_leaf: int = 90,
) -> list[Sample]:
    """Draw all requests side by side."""
    conditions = [_conditions(model, request) for request in requests]
    generator = torch.Generator().manual_seed(seed)
    rows = len(requests)
    leaf, in_leaf, over = [0] * rows, [0] * rows, [False] * rows
    made: list[list[Tensor]] = [[] for _ in requests]
    owners: list[list[int]] = [[] for _ in requests]
    state = initial_state(model.preset, rows)
    for _ in range(max_points):
        last = [at == len(c) - 1 for at, c in zip(leaf, conditions, strict=True)]
        condition = torch.stack([c[at] for at, c in zip(leaf, conditions, strict=True)])
        state, ends = model.step(
            state,
            condition,
            torch.rand(rows, 5, generator=generator).clamp(min=1e-6),
            torch.full((rows, 1), temperature),
            torch.zeros(rows, 5),
            torch.zeros(rows, 1),
            torch.tensor(last).float()[:, None],
        )
        for b in range(rows):
            row = state.pen.row[b]
            if over[b]:
                continue
            if not row[END]:
                made[b].append(row)
                in_leaf[b] += 1
            if row[UP]:
                owners[b].append(leaf[b])
            if ends[b] or in_leaf[b] >= max_leaf:
                over[b] = last[b]
                leaf[b], in_leaf[b] = min(leaf[b] + 1, len(conditions[b]) - 1), 0
        if all(over):
            break
    return [
        Sample(request, stroke5.from_rows(torch.stack(points).numpy()), (*owner, leaf[b]))
        for b, (request, points, owner) in enumerate(zip(requests, made, owners, strict=True))
    ]


def _conditions(model: SketchDecoder, request: Request) -> Tensor:
    """The condition of every leaf: (leaves, C)."""
    vectors = data.token_vectors()
    texts = [text for step in request.steps or ("",) for text in (request.root, step)]
    tokens, mask = vectors.batch([text or "x" for text in texts])
    stacks = torch.from_numpy(tokens).reshape(-1, 2, *tokens.shape[1:])
    stack_mask = torch.from_numpy(mask).reshape(-1, 2, mask.shape[1])
    if not request.steps:
        stack_mask[:, 1] = 0
    subject = torch.from_numpy(vectors.sentence(request.subject)).expand(len(stacks), -1)
    return model.encode(stacks, stack_mask, subject)


def held_out(folder: Path | None, subjects: list[str] | None = None) -> list[Request]:
    """The steps of one annotated test drawing of each subject, and its plain root after it."""
    first: dict[str, Request] = {}
    for example in data.load(folder, kinds=("drawn",), splits=("test",)):
        if example.annotation and example.subject in (subjects or [example.subject]):
            steps = tuple(step.text for step in example.annotation.steps)
            first.setdefault(
                example.subject, Request(example.subject, example.annotation.root, steps)
            )
    return [
        request
        for stepped in first.values()
        for request in (stepped, Request(stepped.subject, wording.root(stepped.subject), ()))
    ]


def picture(samples: list[Sample], columns: int = 6) -> Figure:
    """All samples on one sheet, coloured by leaf."""
    lines = -(-len(samples) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.9 * lines), layout="constrained")
    for index, sample in enumerate(samples):
        axes = figure.add_subplot(lines, columns, index + 1)
        plot(axes, sample.drawing, sample.leaves)
        axes.set_title("\n".join((sample.request.root, *sample.request.steps)), fontsize=5)
    return figure


def plot(axes: Axes, drawing: Drawing, leaves: tuple[int, ...]) -> None:
    """Draw strokes into axes, coloured by leaf."""
    for stroke, leaf in zip(drawing.strokes, leaves, strict=False):
        colour = COLOURS[leaf % len(COLOURS)]
        axes.plot(stroke[:, 0], stroke[:, 1], color=colour, lw=1.4, solid_capstyle="round")
        if len(stroke) == 1:
            axes.plot(stroke[:, 0], stroke[:, 1], ".", color=colour, ms=4)
    axes.set(xlim=(-10, 266), ylim=(266, -10), aspect="equal", xticks=[], yticks=[])
