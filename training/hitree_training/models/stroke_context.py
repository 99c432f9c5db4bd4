"""Strokes in the context of their neighbours, and the score of a span as one step of a drawing.

Span-based parsing (Stern et al. 2017, Kitaev & Klein 2018) with strokes in the place of words:
every stroke is read once, beside what it has to do with the two strokes before it (gap, overlap,
likeness), then in the context of its neighbours; a span's score comes from the strokes at its ends,
on both sides of them, and from their mean between them. The first layer over these is a sum of
products a stroke, so that scoring all O(n^2) spans of a drawing costs a few gathers each.

Several drawings may lie end to end; nothing is seen across their borders. No recurrence: it exports
as plain products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 32  # of the convolutions over a stroke's points
BACK = (1, 2)  # how many strokes before: pairs alternate (left eye, left pupil, right eye, …)
SOFT = 0.02  # of half a frame, added to lengths under a logarithm or a quotient
SPARSE = 2  # every other point is enough to tell how near two strokes come
FACTS = 6  # numbers about a span's size and place
MOMENTS = 4  # a stroke's centre and box, whose spread over a span is looked at


class StrokeContext(nn.Module):
    """Encodes strokes (n, 32, 4), given as `hitree.segments.stroke_features`, as (n, width)."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv1d(4, CHANNELS, kernel_size=5, padding=2, stride=2),
            nn.ReLU(),
            nn.Conv1d(CHANNELS, CHANNELS, kernel_size=5, padding=2, stride=2),
            nn.ReLU(),
        )
        facts = _geometry(torch.zeros(1, 32, 4), torch.zeros(1)).shape[1]
        self.scale = nn.BatchNorm1d(facts)  # geometry is of many scales
        self.stroke = nn.Sequential(
            nn.Linear(2 * CHANNELS + facts, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )
        self.layers = nn.ModuleList([_Neighbours(width, dropout) for _ in range(layers)])
        self.out = nn.LayerNorm(width)

    def forward(self, strokes: Tensor, drawing: Tensor) -> Tensor:
        """Encode strokes; ``drawing`` (n,) differs between strokes of different drawings."""
        features = self.points(strokes.transpose(1, 2))  # (n, C, 8)
        pooled = torch.cat([features.amax(dim=-1), features.mean(dim=-1)], dim=-1)  # (n, 2C)
        x = self.stroke(torch.cat([pooled, self.scale(_geometry(strokes, drawing))], dim=-1))
        for layer in self.layers:
            x = layer(x, drawing)
        encoded: Tensor = self.out(x)
        return encoded


class Unity(nn.Module):
    """Log-odds that a span of strokes is one step of its drawing."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.context = StrokeContext(width, layers, dropout)
        # Before, first, last, after, mean inside, mean of the whole drawing: one product a stroke.
        self.posts = nn.Linear(width, 6 * width)
        self.facts = nn.Linear(FACTS + 2 * MOMENTS, width)
        self.score = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Linear(width // 2, 1),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Score ``spans`` (S, 2) int64 of ``strokes`` (n, 32, 4); return (S,).

        ``bounds`` (S, 2) int64 is the drawing that each span belongs to, see `SegmentEncoder`; a
        border between drawings shows only where spans of one of the two are asked for.
        """
        n = strokes.shape[0]
        start, end = spans[:, 0], spans[:, 1]
        if bounds is None:
            bounds = torch.stack([torch.zeros_like(start), torch.zeros_like(end) + n], dim=1)
        first, last = bounds[:, 0], bounds[:, 1]
        encoded = self.dropout(self.context(strokes, numbered(strokes, bounds)))
        before, begin, finish, after, inside, whole = self.posts(encoded).chunk(6, dim=1)
        sums, wholes = prefix_sums(inside), prefix_sums(whole)
        hidden = (
            before[(start - 1).clamp(min=0)] * (start > first).unsqueeze(1)
            + begin[start]
            + finish[end - 1]
            + after[torch.minimum(end, last - 1)] * (end < last).unsqueeze(1)
            + span_mean(sums, start, end)
            + span_mean(wholes, first, last)
            + self.facts(torch.cat([_place(spans, bounds), _spread(strokes, spans)], dim=1))
        )
        scored: Tensor = self.score(hidden)
        return scored.squeeze(1)


class _Neighbours(nn.Module):
    """A residual layer over every stroke and the ones on both sides of it."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, drawing: Tensor) -> Tensor:
        y = self.norm(x)
        near = torch.cat([_back(y, drawing, 1), y, _back(y, drawing, -1)], dim=1)  # (n, 3W)
        mixed: Tensor = x + self.mix(near)
        return mixed


def numbered(strokes: Tensor, bounds: Tensor) -> Tensor:
    """A number for every stroke (n,) that grows wherever a drawing begins or ends."""
    edge = torch.zeros_like(functional.pad(strokes[:, 0, 0], (0, 1)))  # (n + 1,)
    edge = edge.index_fill(0, bounds.flatten(), 1.0)
    return edge.cumsum(dim=0)[:-1]


def _back(x: Tensor, drawing: Tensor, by: int) -> Tensor:
    """For every stroke, the row of the stroke ``by`` before it; zeros where there is none."""
    pad = (by, 0) if by > 0 else (0, -by)
    before = functional.pad(x, (0, 0, *pad))  # (n + |by|, F)
    other = functional.pad(drawing, pad, value=-1.0)
    cut = slice(0, -by) if by > 0 else slice(-by, None)
    return before[cut] * (other[cut] == drawing).unsqueeze(1).to(x.dtype)


def _geometry(strokes: Tensor, drawing: Tensor) -> Tensor:
    """What can be measured of each stroke, and of it with each of those `BACK` of it. (n, F)."""
    found = [_alone(strokes)]
    for by in BACK:
        other = _back(strokes.flatten(1), drawing, by).reshape(strokes.shape)  # (n, 128) -> as was
        there = _back(torch.ones_like(drawing).unsqueeze(1), drawing, by)  # (n, 1)
        found += [_together(strokes, other) * there, there]
    return torch.cat(found, dim=1)


def _alone(strokes: Tensor) -> Tensor:
    """Place, size, length and closedness of strokes. (n, 15)."""
    points = strokes[..., :2]  # (n, 32, 2)
    low, size = _box(points)
    begin, finish = points[:, 0], points[:, -1]
    length = _norm(points[:, 1:] - points[:, :-1]).sum(dim=1, keepdim=True)  # (n, 1)
    open_, diagonal = _norm(begin - finish).unsqueeze(1), _norm(size).unsqueeze(1)
    return torch.cat(
        [
            low + size / 2,
            size,
            torch.log(size + SOFT),
            length,
            torch.log(length + SOFT),
            open_,
            open_ / (diagonal + SOFT),
            diagonal / (length + SOFT),
            begin,
            finish,
        ],
        dim=1,
    )


def _together(strokes: Tensor, others: Tensor) -> Tensor:
    """What strokes have to do with others: gap, overlap, size, likeness, direction. (n, 16)."""
    points, past = strokes[..., :2], others[..., :2]
    gap = _gap(points, past)  # (n, 1)
    (low, size), (low_o, size_o) = _box(points), _box(past)
    overlap = torch.minimum(low + size, low_o + size_o) - torch.maximum(low, low_o)  # (n, 2)
    shared = overlap.clamp(min=0).prod(dim=1, keepdim=True)
    area = (size + SOFT).prod(dim=1, keepdim=True)
    area_o = (size_o + SOFT).prod(dim=1, keepdim=True)
    move = low + size / 2 - low_o - size_o / 2  # (n, 2), from centre to centre
    shape, shape_o = strokes[..., 2:], others[..., 2:]
    flip = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])  # a left leg is a right leg's mirror image
    return torch.cat(
        [
            gap,
            torch.log(gap + SOFT),
            overlap,
            shared / area,
            shared / area_o,
            torch.log(area / area_o),
            _unlike(shape, shape_o),
            _unlike(shape, shape_o * flip[0]),
            _unlike(shape, shape_o * flip[1]),
            move,
            move.abs(),
            _norm(move).unsqueeze(1),
            _norm(points[:, 0] - past[:, -1]).unsqueeze(1),
        ],
        dim=1,
    )


def _gap(points: Tensor, past: Tensor) -> Tensor:
    """The least distance between the points of two strokes each. (n, 1)."""
    a, b = points[:, ::SPARSE, None], past[:, None, ::SPARSE]  # (n, 16, 1, 2), (n, 1, 16, 2)
    square = (a[..., 0] - b[..., 0]).square() + (a[..., 1] - b[..., 1]).square()  # (n, 16, 16)
    return square.flatten(1).amin(dim=1, keepdim=True).clamp(min=1e-8).sqrt()


def _unlike(shape: Tensor, other: Tensor) -> Tensor:
    """The mean distance of two shapes (n, 32, 2), in whichever direction drawn. (n, 1)."""
    forth = (shape - other).abs().mean(dim=(1, 2))
    back = (shape - other.flip(1)).abs().mean(dim=(1, 2))
    return torch.minimum(forth, back).unsqueeze(1)


def _box(points: Tensor) -> tuple[Tensor, Tensor]:
    """The lower corner and the size of the boxes of (n, 32, 2) points: (n, 2) each."""
    low = points.amin(dim=1)
    return low, points.amax(dim=1) - low


def _norm(vectors: Tensor) -> Tensor:
    """Lengths of (…, 2) vectors."""
    return (vectors.square().sum(dim=-1) + 1e-8).sqrt()


def prefix_sums(x: Tensor) -> Tensor:
    """Prefix sums of (n, F) rows, from none to all: (n + 1, F)."""
    return torch.cat([torch.zeros_like(x[:1]), x.cumsum(dim=0)])


def span_mean(sums: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The mean over each span. (S, F)."""
    return (sums[end] - sums[start]) / (end - start).unsqueeze(1).to(sums.dtype)


def _place(spans: Tensor, bounds: Tensor) -> Tensor:
    """How large spans are and where they lie in their drawings. (S, FACTS)."""
    start, end = (spans - bounds[:, :1]).to(torch.float32).unbind(dim=1)
    size = (bounds[:, 1] - bounds[:, 0]).to(torch.float32)
    count = end - start
    return torch.stack(
        [
            torch.log(count),
            count / size,
            start / size,
            end / size,
            torch.log(size),
            (start == 0).to(torch.float32),
        ],
        dim=1,
    )


def _spread(strokes: Tensor, spans: Tensor) -> Tensor:
    """Mean and standard deviation of centre and size over the strokes of spans. (S, 2 MOMENTS)."""
    low, size = _box(strokes[..., :2])
    places = torch.cat([low + size / 2, size], dim=1)  # (n, MOMENTS)
    start, end = spans[:, 0], spans[:, 1]
    mean = span_mean(prefix_sums(places), start, end)
    square = span_mean(prefix_sums(places.square()), start, end)
    return torch.cat([mean, (square - mean.square()).clamp(min=1e-6).sqrt()], dim=1)
