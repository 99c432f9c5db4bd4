"""Drawings from a decoder, and pictures of them: ``hitree-train samples``.

For looking at a training run and for measuring; what is served draws from the exported step graph
instead. A canvas is continued by forcing its rows through, under the first leaf's condition, as
the service does it.

Guidance (Ho & Salimans, "Classifier-Free Diffusion Guidance", 2022, here for a mixture-density
head): a second LSTM hears the same rows and is told less; what it says is moved away from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from matplotlib.figure import Figure

from hitree import stroke5
from hitree.stroke5 import END, UP
from hitree_training import checkpoint, data, wording
from hitree_training.models.decoder import Head, initial_state
from hitree_training.trained import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

    from hitree.drawing import Drawing
    from hitree_training.models.decoder import SketchDecoder

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#333333")
CANVAS = -1  # the leaf of strokes that were there before

Told = Literal["stack", "root", "subject"]  # what a decoder is told, from most to least


@dataclass(frozen=True)
class Request:
    """What to draw."""

    subject: str
    root: str
    steps: tuple[str, ...]  # texts of the leaves; empty: under the root alone
    canvas: Drawing | None = None  # what is there already
    whole: bool = True  # the last leaf ends the drawing; else more would follow


@dataclass(frozen=True)
class Sample:
    """What was drawn."""

    request: Request
    drawing: Drawing  # the canvas and what was added
    leaves: tuple[int, ...]  # the leaf of every stroke; `CANVAS` for those of the canvas


@dataclass(frozen=True)
class Sampling:
    """How to draw."""

    temperature: float = 0.3  # of the offsets, as served
    seed: int = 0
    max_points: int = 250  # of a drawing, the canvas not counted
    max_leaf: int = 60  # points, as served
    told: Told = "stack"
    guidance: float = 1.0  # how far to go from what ``null`` makes of the rows; 1: no guidance
    null: Told = "root"


def load(path: Path) -> SketchDecoder:
    """The decoder of a checkpoint, ready to draw."""
    return cast("SketchDecoder", network(checkpoint.load(path, "decoder")))


@torch.inference_mode()
def draw(model: SketchDecoder, requests: Sequence[Request], by: Sampling) -> list[Sample]:
    """Draw all requests side by side."""
    rows = len(requests)
    generator = torch.Generator().manual_seed(by.seed)
    courses = [_Course(request, conditions(model, request, by.told), by) for request in requests]
    if by.guidance != 1.0:
        null = torch.cat([conditions(model, request, by.null)[:1] for request in requests])
    heat = torch.full((rows, 1), by.temperature)
    state = away = initial_state(model.preset, rows)
    while not all(course.over for course in courses):
        condition = torch.stack([course.condition for course in courses])  # (B, C)
        state = model.hear(state, condition)
        head = model.predict(state.h, condition, state.where)
        if by.guidance != 1.0:
            away = model.hear(away._replace(pen=state.pen), null)
            head = guided(head, model.predict(away.h, null, away.where), by.guidance)
        noise = torch.rand(rows, 5, generator=generator).clamp(min=1e-6)
        state, ends = model.act(state, head, noise, heat, *_orders(courses))
        for course, row, end in zip(courses, state.pen.row, ends.flatten().tolist(), strict=True):
            course.take(row, ends=bool(end))
    return [course.sample() for course in courses]


def guided(head: Head, null: Head, guidance: float) -> Head:
    """What ``head`` says of offsets, ``guidance`` times as far from ``null`` as it is.

    In the head's own terms: logits, means, logarithms of sigmas, area tangents of correlations.
    The pen and the segment's end are left as they are: guided, segments end too early.
    """

    def mix(a: Tensor, b: Tensor) -> Tensor:
        return b + guidance * (a - b)

    return head._replace(
        mixture=mix(head.mixture, null.mixture),
        mean=mix(head.mean, null.mean),
        sigma=mix(head.sigma.log(), null.sigma.log()).exp(),
        rho=torch.tanh(mix(head.rho.atanh(), null.rho.atanh())).clamp(-0.95, 0.95),
    )


class _Course:
    """How far a request is drawn."""

    def __init__(self, request: Request, conditions: Tensor, by: Sampling) -> None:
        self.request = request
        self.over = False
        self._by = by
        self._conditions = conditions  # (leaves, C)
        strokes = request.canvas.strokes if request.canvas else ()
        self.forced: list[Tensor] = []  # rows of the canvas that are still to be made
        if request.canvas:
            self.forced = list(torch.from_numpy(stroke5.to_rows(request.canvas, end=False)))
        self._leaves = [CANVAS] * len(strokes)
        self._made: list[Tensor] = []
        self._left = len(self.forced) + by.max_points
        self._leaf, self._in_leaf = 0, 0

    @property
    def condition(self) -> Tensor:
        """What the next row is drawn under: (C,)."""
        return self._conditions[self._leaf]

    @property
    def last(self) -> bool:
        """Whether this is the last leaf."""
        return self._leaf == len(self._conditions) - 1

    @property
    def may_end(self) -> bool:
        """Whether the drawing may end: in its last leaf, once that has a point, as in serving."""
        return self.last and self.request.whole and self._in_leaf > 0

    def take(self, row: Tensor, *, ends: bool) -> None:
        """Note that ``row`` (5,) was made, and whether it ended its leaf."""
        if self.over:
            return
        if not row[END]:
            self._made.append(row)
        self._left -= 1
        if self.forced:
            self.forced.pop(0)
            return
        self._in_leaf += 1
        if row[UP]:
            self._leaves.append(self._leaf)
        self.over = self._left <= 0
        if ends or self._in_leaf >= self._by.max_leaf:
            self.over |= self.last
            self._leaf, self._in_leaf = min(self._leaf + 1, len(self._conditions) - 1), 0

    def sample(self) -> Sample:
        """What was drawn; a stroke that was cut off belongs to the leaf at hand."""
        drawing = stroke5.from_rows(torch.stack(self._made).numpy())
        owed = len(drawing.strokes) - len(self._leaves)
        return Sample(self.request, drawing, (*self._leaves, *[self._leaf] * owed))


def _orders(courses: Sequence[_Course]) -> tuple[Tensor, Tensor, Tensor]:
    """The rows to force (B, 5), where (B, 1), and where the drawing may end (B, 1)."""
    forced = torch.stack([c.forced[0] if c.forced else torch.zeros(5) for c in courses])
    force = torch.tensor([[float(bool(c.forced))] for c in courses])
    may_end = torch.tensor([[float(c.may_end)] for c in courses])
    return forced, force, may_end


def conditions(model: SketchDecoder, request: Request, told: Told = "stack") -> Tensor:
    """The condition of every leaf: (leaves, C); a decoder that is told less has no texts for it."""
    vectors = data.token_vectors()
    texts = [text for step in request.steps or ("",) for text in (request.root, step)]
    tokens, mask = vectors.batch(texts)
    stacks = torch.from_numpy(tokens).reshape(-1, 2, *tokens.shape[1:])  # (leaves, 2, T, E)
    stack_mask = torch.from_numpy(mask).reshape(-1, 2, mask.shape[1])
    if told != "stack" or not request.steps:
        stack_mask[:, 1] = 0
    if told == "subject":
        stack_mask[:] = 0
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


def picture(samples: Sequence[Sample], columns: int = 6) -> Figure:
    """All samples on one sheet, coloured by leaf."""
    lines = -(-len(samples) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.9 * lines), layout="constrained")
    for index, sample in enumerate(samples):
        axes = figure.add_subplot(lines, columns, index + 1)
        plot(axes, sample.drawing, sample.leaves)
        axes.set_title("\n".join((sample.request.root, *sample.request.steps)), fontsize=5)
    return figure


def plot(axes: Axes, drawing: Drawing, leaves: tuple[int, ...]) -> None:
    """Draw strokes into axes, coloured by leaf, a canvas in grey."""
    for stroke, leaf in zip(drawing.strokes, leaves, strict=True):
        colour = "#aaaaaa" if leaf == CANVAS else COLOURS[leaf % len(COLOURS)]
        axes.plot(stroke[:, 0], stroke[:, 1], color=colour, lw=1.4, solid_capstyle="round")
        if len(stroke) == 1:
            axes.plot(stroke[:, 0], stroke[:, 1], ".", color=colour, ms=4)
    axes.set(xlim=(-10, 266), ylim=(266, -10), aspect="equal", xticks=[], yticks=[])
