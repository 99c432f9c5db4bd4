"""Training batches for the sketch decoder, assembled and augmented for all drawings at once.

All drawings lie end to end in flat tensors; a batch is an index into them, so that padding,
mirroring, scaling and jitter are a handful of tensor operations whatever the batch size. Batches
are bucketed by length.

Every drawing has one or more *views*: ways to cut it into segments and word them (the annotated
steps, an inferred tree, its parts by rule, the whole under its root alone). Which of them are shown
is the condition that a decoder is trained under.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from hitree import stroke5
from hitree.drawing import CENTRE, FRAME
from hitree.stroke5 import DOWN, END, UP
from hitree_training import data, wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from hitree.tree import Node
    from hitree_training.annotations import Step
    from hitree_training.data import Example

POOL = 16  # batches that are sorted by length together
TOKENS = 24  # tokens of an instruction that are read
LEVELS = 3  # of a stack that are read: the root and the last two
NO_TEXT = -1  # id of the empty text

Group = str  # "real", "sampled" or "drawn", with " annotated" where the drawing is

Condition = Literal["none", "root", "stack"]
"""What a decoder is told: the subject alone, the root as well, or each segment's whole stack."""


@dataclass(frozen=True)
class Batch:
    """B drawings, padded to T rows."""

    rows: Tensor  # (B, T, 5) stroke-5, offsets in units, the end row included
    valid: Tensor  # (B, T) 1 where there is a row
    segment_end: Tensor  # (B, T) 1 where a segment ends
    segment: Tensor  # (B, T) int64, index into `stacks`
    stacks: Tensor  # (S, L, tokens, E) from the root down to each segment's node
    stack_mask: Tensor  # (S, L, tokens)
    subject: Tensor  # (S, E)


@dataclass(frozen=True)
class View:
    """One way to cut and word a drawing."""

    roots: tuple[int, ...]  # text ids to choose the root from; NO_TEXT: none is told
    ends: tuple[int, ...]  # one past the last stroke of every segment
    below: tuple[tuple[int, ...], ...]  # text ids of every segment's stack below the root


Shown = Callable[["Example", "Texts", "Node | None"], list[View]]
"""Chooses the views of a drawing, which may have an inferred tree."""


@dataclass(frozen=True)
class Augmentation:
    """How far a drawing may be changed without changing what it is."""

    scale: float = 0.12  # up to this share smaller, each way
    rotate: float = 0.08  # radians, standard deviation
    jitter: float = 0.7  # units, standard deviation of every point
    warp: float = 3.0  # units, standard deviation of a wave across the frame
    mirror: float = 0.5  # share of drawings
    silence: float = 0.1  # share of drawings of which only the subject is told


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Texts:
    """Every text once, as padded token vectors; id + 1 is the text for the mirrored drawing."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._all: list[str] = []

    def add(self, text: str) -> int:
        """The id of a text."""
        if text not in self._ids:
            self._ids[text] = len(self._all)
            self._all += [text, wording.mirror(text)]
        return self._ids[text]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Token vectors (U, tokens, E) and mask (U, tokens); the last text is empty."""
        vectors = data.token_vectors()
        tokens = np.zeros((len(self._all) + 1, TOKENS, vectors.width), np.float32)
        mask = np.zeros(tokens.shape[:2], np.float32)
        for index, text in enumerate(self._all):
            found = vectors.vectors(text)[:TOKENS]
            tokens[index, : len(found)], mask[index, : len(found)] = found, 1
        return torch.from_numpy(tokens), torch.from_numpy(mask)


class Sequences:
    """A set of drawings, ready to be batched."""

    def __init__(
        self,
        examples: Sequence[Example],
        condition: Condition = "stack",
        trees: Mapping[str, Node] | None = None,
        shown: Shown | None = None,
    ) -> None:
        """``trees`` are instruction trees by ``key_id``; ``shown`` is `views` by default."""
        texts, trees, shown = Texts(), trees or {}, shown or views
        self.views = [
            under(condition, shown(example, texts, trees.get(example.key_id)))
            for example in examples
        ]
        self.tokens, self.token_mask = texts.tensors()
        rows = [stroke5.to_rows(example.drawing, end=False) for example in examples]
        self.lengths = torch.tensor([len(r) for r in rows])
        self.offsets = self.lengths.cumsum(0) - self.lengths
        flat = torch.from_numpy(np.concatenate(rows))
        self.up = flat[:, UP].contiguous()
        points = [np.concatenate(example.drawing.strokes) for example in examples]
        self.points = torch.from_numpy(stroke5.snap(np.concatenate(points)))
        names = sorted({example.subject for example in examples})
        sentences = np.stack([data.token_vectors().sentence(name) for name in names])
        self.subjects = torch.from_numpy(sentences)
        self.subject = torch.tensor([names.index(example.subject) for example in examples])
        self.groups = [
            f"{example.kind} annotated" if example.annotation else example.kind
            for example in examples
        ]

    def __len__(self) -> int:
        return len(self.lengths)

    def scale(self) -> float:
        """The standard deviation of all offsets but placements, in units."""
        offsets = self.points[1:] - self.points[:-1]
        within = torch.ones(len(offsets), dtype=torch.bool)
        within[self.offsets[1:] - 1] = False  # from one drawing's last point to the next's first
        return float(offsets[within].std())

    def weights(self, mix: Mapping[Group, float]) -> Tensor:
        """Sampling weights: groups by ``mix``; within a group, subjects by the root of their size.

        Between a drawing's weight and a subject's: else the few drawings of a rare subject would
        be learnt by heart.
        """
        group = np.array(self.groups)
        weight = torch.zeros(len(self), dtype=torch.float64)
        for name, share in mix.items():
            member = torch.from_numpy(np.flatnonzero(group == name))
            if len(member):
                counts = self.subject[member].bincount(minlength=len(self.subjects))
                each = counts[self.subject[member]].double() ** -0.5
                weight[member] = share * each / each.sum()
        return weight

    def sample(
        self, weight: Tensor, size: int, generator: torch.Generator, augmentation: Augmentation
    ) -> Iterator[Batch]:
        """`POOL` batches of drawings drawn by weight, each of drawings alike in length."""
        index = torch.multinomial(weight, size * POOL, replacement=True, generator=generator)
        index = index[self.lengths[index].argsort()]
        for batch in torch.randperm(POOL, generator=generator).tolist():
            yield self.batch(index[batch * size : (batch + 1) * size], generator, augmentation)

    def batch(self, index: Tensor, generator: torch.Generator, augmentation: Augmentation) -> Batch:
        """Assemble the drawings at ``index`` (B,); a view of each is chosen at random."""
        length = self.lengths[index]  # (B,)
        T = int(length.max()) + 1  # and the end row
        time = torch.arange(T)
        flat = (self.offsets[index, None] + time).clamp(max=len(self.points) - 1)  # (B, T)
        real = (time < length[:, None]).float()  # (B, T) a point, not the end
        points, mirrored = augment(self.points[flat], real, generator, augmentation)
        rows = torch.zeros(len(index), T, 5)
        rows[..., :2] = torch.diff(points, dim=1, prepend=torch.full((len(index), 1, 2), CENTRE))
        rows[..., :2] *= real[..., None]
        rows[..., UP] = self.up[flat] * real
        rows[..., DOWN] = real - rows[..., UP]
        rows[..., END] = (time == length[:, None]).float()
        valid = (time <= length[:, None]).float()
        silent = torch.rand(len(index), generator=generator) < augmentation.silence
        return self._with_texts(index, rows, valid, mirrored, silent, generator)

    def _with_texts(
        self,
        index: Tensor,
        rows: Tensor,
        valid: Tensor,
        mirrored: Tensor,
        silent: Tensor,
        generator: torch.Generator,
    ) -> Batch:
        """Choose a view of every drawing and lay its segments over the rows."""
        chance = torch.rand(len(index), 2, generator=generator).tolist()
        ends = torch.zeros(rows.shape[:2])
        strokes = (rows[..., UP].cumsum(dim=1) - rows[..., UP]).long()  # stroke of every row
        first: list[int] = []  # first segment of every drawing in the batch
        stacks: list[tuple[int, ...]] = []
        subject: list[int] = []
        within = torch.zeros(rows.shape[:2], dtype=torch.int64)
        for b, (i, flip) in enumerate(zip(index.tolist(), mirrored.tolist(), strict=True)):
            options = self.views[i]
            view = options[int(chance[b][0] * len(options))]
            root = view.roots[int(chance[b][1] * len(view.roots))]
            first.append(len(stacks))
            if silent[b]:
                stacks += [()] * len(view.below)
            else:
                stacks += [_flipped((root, *below), flip) for below in view.below]
            subject += [i] * len(view.below)
            cuts = torch.tensor(view.ends)
            within[b] = torch.bucketize(strokes[b], cuts, right=True).clamp(max=len(cuts) - 1)
            ends[b] = rows[b, :, UP] * torch.isin(strokes[b] + 1, cuts)
        levels = max(2, *map(len, stacks))
        padded = torch.tensor([(*s, *[NO_TEXT] * (levels - len(s))) for s in stacks])  # (S, L)
        return Batch(
            rows=rows,
            valid=valid,
            segment_end=ends,
            segment=within + torch.tensor(first)[:, None],
            stacks=self.tokens[padded],
            stack_mask=self.token_mask[padded],
            subject=self.subjects[self.subject[torch.tensor(subject)]],
        )


def _flipped(stack: tuple[int, ...], flip: bool) -> tuple[int, ...]:
    """The texts of the mirrored drawing where ``flip``; see `Texts`."""
    return tuple(text + flip if text != NO_TEXT else text for text in stack)


def views(example: Example, texts: Texts, tree: Node | None = None) -> list[View]:
    """The ways in which a drawing is shown; one that stands twice is chosen twice as often."""
    plain = texts.add(wording.root(example.subject))
    strokes = len(example.drawing.strokes)
    if example.annotation is None:
        found = [View((plain,), (strokes,), ((),))]
        if example.parts:
            found += [_view((plain,), wording.compose(example.parts), texts)] * 2
        if tree is not None:
            told = (texts.add(tree.text), plain)
            found += [View(told[:1], (strokes,), ((),)), *[_leaves(told, tree, texts)] * 3]
        return found
    root = texts.add(example.annotation.root or wording.root(example.subject))
    both = (root, root, plain)
    steps = _view(both, example.annotation.steps, texts)
    parts = _view(both, wording.compose(example.annotation.parts), texts)
    return [View(both, (strokes,), ((),)), parts, *[steps] * 4]


def tree_view(example: Example, texts: Texts, tree: Node | None) -> list[View]:
    """The one view that a drawing's inferred tree gives, as a figure is measured under it."""
    if tree is None:
        raise data.DataError(f"there is no tree for drawing {example.key_id}; infer trees first")
    return [_leaves((texts.add(tree.text),), tree, texts)]


def under(condition: Condition, views: list[View]) -> list[View]:
    """What is left of a drawing's views where less is told."""
    if condition == "stack":
        return views
    # Segments end where they end in the views of "stack": the drawing is the same.
    if condition == "root":
        return [replace(view, below=((),) * len(view.below)) for view in views]
    return [replace(view, roots=(NO_TEXT,), below=((),) * len(view.below)) for view in views]


def _view(roots: tuple[int, ...], steps: tuple[Step, ...], texts: Texts) -> View:
    ends = tuple(step.end for step in steps)
    return View(roots, ends, tuple((texts.add(step.text),) for step in steps))


def _leaves(roots: tuple[int, ...], tree: Node, texts: Texts) -> View:
    """The leaves of a tree whose nodes have spans, each under its stack."""
    stacks: dict[int | None, tuple[int, ...]] = {None: ()}
    leaves: list[tuple[int, tuple[int, ...]]] = []
    for node in tree.walk():
        above = stacks[node.parent]
        stacks[node.id] = (*above, texts.add(node.text)) if node.parent is not None else ()
        if not node.children:
            leaves.append((node.end or 0, stacks[node.id][1 - LEVELS :]))
    return View(roots, tuple(end for end, _ in leaves), tuple(below for _, below in leaves))


def augment(
    points: Tensor, real: Tensor, generator: torch.Generator, by: Augmentation
) -> tuple[Tensor, Tensor]:
    """Warp, mirror, scale, rotate and jitter drawings (B, T, 2); and who was mirrored (B,).

    A drawing is moved back to where it touches the frame's left and top, as QuickDraw aligns it.
    """
    B = len(points)
    mirrored = torch.rand(B, generator=generator) < by.mirror
    factor = 1 - by.scale * torch.rand(B, 2, generator=generator)
    factor[:, 0] *= 1 - 2 * mirrored.float()
    angle = by.rotate * torch.randn(B, generator=generator)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
    wave = 1 + torch.rand(B, 1, 2, generator=generator)  # half a period to one across the frame
    phase = 2 * math.pi * torch.rand(B, 1, 2, generator=generator)
    height = by.warp * torch.randn(B, 1, 2, generator=generator)
    points = points + height * torch.sin(points.flip(-1) * wave * (math.pi / FRAME) + phase)
    changed = (points * factor[:, None]) @ turn.reshape(B, 2, 2).transpose(1, 2)
    changed = changed + by.jitter * torch.randn(points.shape, generator=generator)
    far = torch.where(real[..., None] > 0, 0.0, torch.inf)
    changed = changed - (changed + far).amin(dim=1, keepdim=True)
    top = (changed - far).amax(dim=(1, 2), keepdim=True)
    shrink = (255 / top).clamp(max=1.0)  # rotation may have carried a corner out of the frame
    return torch.round(changed * shrink * stroke5.GRID) / stroke5.GRID, mirrored
