"""The sketch decoder: P(strokes | instruction stack, canvas before), point by point.

An LSTM with a mixture-density head as in sketch-rnn (Ha & Eck, "A Neural Representation of Sketch
Drawings", 2017), conditioned on the instruction stack of the segment that is being drawn. Beside
the last row the network sees where the pen is and where its stroke began, in the frame, a coarse
raster of all ink so far, and what it found among the finished strokes as this one began
(`models/layout.py`): what later parts must be put in relation to. Where a stroke begins is said by
a head of its own, as a place in the frame; all other points as offsets from the last.

Shapes: B rows (sequences), T steps, H width, C condition, M mixture components, G raster cells a
side, E width of the token vectors, L levels of a stack, A width of the layout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hitree.drawing import CENTRE, FRAME
from hitree.stroke5 import DOWN, END, GRID, UP
from hitree_training.models.layout import STROKES, TOLD, Layout, centred, place_of
from hitree_training.models.text_encoder import TextEncoder
from hitree_training.presets import Preset

INK_SAMPLES = 4  # points along a move that leave ink on the raster
DIRECTIONS = 4096  # that the normals of offsets are drawn in
SIGMA_FLOOR = 0.5  # units; else integer coordinates hand out density for nothing


class DecoderPreset(Preset):
    """What a decoder is made of."""

    width: int  # H, of the LSTM
    condition: int  # C
    text: int  # width of one encoded instruction
    mixtures: int  # M
    raster: int  # G, cells a side
    raster_features: int  # what the raster is projected to
    layout: int  # A, what is found among finished strokes
    begin: int  # hidden width of the head that begins strokes
    dropout: float  # on the LSTM's output, in training


class Head(NamedTuple):
    """What the network says about the next row."""

    mixture: Tensor  # (…, M) logits of the components
    mean: Tensor  # (…, M, 2) in scaled units
    sigma: Tensor  # (…, M, 2) in scaled units
    rho: Tensor  # (…, M) correlation
    pen: Tensor  # (…, 3) logits of down, up, end
    segment: Tensor  # (…) logit that the segment ends with this row


class Pen(NamedTuple):
    """The state that follows from the rows alone."""

    row: Tensor  # (B, 5) the last row, offsets in units
    position: Tensor  # (B, 2) in units
    start: Tensor  # (B, 2) where the stroke at hand began, in units
    canvas: Tensor  # (B, G * G) ink
    stroke: Tensor  # (B, 6) the one at hand, see `layout.place_of`


class Where(NamedTuple):
    """What the next row is set against."""

    begins: Tensor  # (…, 1) 1 where it begins a stroke
    position: Tensor  # (…, 2) where the pen is, in units
    layout: Tensor  # (…, A) what was found among the strokes before


class State(NamedTuple):
    """All that one step hands to the next."""

    pen: Pen
    h: Tensor  # (B, H)
    c: Tensor  # (B, H)
    strokes: Tensor  # (B, S, K) what is kept of the finished ones, the last first
    told: Tensor  # (B, TOLD) what the stroke at hand is drawn under
    layout: Tensor  # (B, A) what was found among the finished ones as it began

    @property
    def where(self) -> Where:
        """What the next row is set against."""
        return Where(self.pen.row[:, UP : UP + 1], self.pen.position, self.layout)


class SketchDecoder(nn.Module):
    """The network; `forward` is for training, `step` draws."""

    def __init__(self, preset: DecoderPreset, *, token_width: int, scale: float) -> None:
        """``scale``: the standard deviation of the training set's offsets, in units."""
        super().__init__()
        self.preset = preset
        self.scale = scale
        self.root_text = TextEncoder(token_width, preset.text)
        self.node_text = TextEncoder(token_width, preset.text)
        self.subject = nn.Linear(token_width, preset.text)
        self.condition = nn.Linear(3 * preset.text, preset.condition)
        self.raster = nn.Linear(preset.raster**2, preset.raster_features)
        self.layout = Layout(preset.condition, preset.layout)
        features = 5 + 2 + 2 + preset.raster_features + preset.condition + preset.layout
        self.lstm = nn.LSTM(features, preset.width, batch_first=True)
        self.dropout = nn.Dropout(preset.dropout)
        self.head = nn.Linear(preset.width + preset.condition, 6 * preset.mixtures + 4)
        self.begin = nn.Sequential(
            nn.Linear(preset.width + preset.condition + preset.layout, preset.begin),
            nn.ReLU(),
            nn.Linear(preset.begin, 6 * preset.mixtures),
        )

    # ---- condition -------------------------------------------------------------------------

    def encode(self, stack: Tensor, stack_mask: Tensor, subject: Tensor) -> Tensor:
        """Encode stacks (B, L, T, E) with masks (B, L, T) and subjects (B, E) to (B, C).

        Level 0 is the root; of the levels below it a deeper one counts twice its parent. A stack
        that is the root alone leaves the node's part zero.
        """
        B, L, T, E = stack.shape
        root = self.root_text(stack[:, 0], stack_mask[:, 0])  # (B, text)
        below = self.node_text(stack[:, 1:].reshape(-1, T, E), stack_mask[:, 1:].reshape(-1, T))
        present = stack_mask[:, 1:].amax(dim=2)  # (B, L - 1)
        weight = present * 2.0 ** torch.arange(L - 1, device=stack.device)
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
        node = (below.reshape(B, L - 1, -1) * weight.unsqueeze(-1)).sum(dim=1)  # (B, text)
        return self.join(root, node, subject)

    def join(self, root: Tensor, node: Tensor, subject: Tensor) -> Tensor:
        """Join an encoded root and node (B, text) and a subject (B, E) to a condition (B, C)."""
        return torch.tanh(self.condition(torch.cat([root, node, self.subject(subject)], dim=-1)))

    # ---- training --------------------------------------------------------------------------

    def forward(self, rows: Tensor, condition: Tensor) -> Head:
        """Predict every row of ``rows`` (B, T, 5) from those before it, teacher forced.

        ``condition`` (B, T, C) is the condition that each row is drawn under.
        """
        hidden, where = self.states(rows, condition)
        return self.predict(hidden, condition, where)

    def states(self, rows: Tensor, condition: Tensor) -> tuple[Tensor, Where]:
        """The LSTM's output (B, T, H) before each row of ``rows`` (B, T, 5), and where it is."""
        seen, where = self.observe(rows, condition)
        hidden, _ = self.lstm(seen)
        return self.dropout(hidden), where

    def observe(self, rows: Tensor, condition: Tensor) -> tuple[Tensor, Where]:
        """What the LSTM is shown before each row of (B, T, 5): (B, T, features)."""
        B = len(rows)
        before = torch.cat([initial_pen(B, self.preset.raster).row[:, None], rows[:, :-1]], dim=1)
        position = CENTRE + before[..., :2].cumsum(dim=1)  # (B, T, 2), where the pen is
        begins = functional.pad(before[:, :-1, UP], (1, 0), value=1.0)  # this point begins a stroke
        begins[:, 0] = 1.0
        index = torch.arange(rows.shape[1]).expand_as(begins) * (begins > 0)
        start = position.gather(1, index.cummax(dim=1).values[..., None].expand_as(position))
        inked = functional.pad(before[:, :-1, DOWN], (1, 0))  # the pen was down on the way here
        ink = splat(position - before[..., :2], position, inked, self.preset.raster)
        ink[:, 0] = 0  # the pen starts lifted
        layout = self.layout(rows, position, condition)
        seen = self._features(before, position, start, ink.cumsum(dim=1), condition, layout)
        return seen, Where(before[..., UP : UP + 1], position, layout)

    def _features(
        self,
        row: Tensor,
        position: Tensor,
        start: Tensor,
        canvas: Tensor,
        condition: Tensor,
        layout: Tensor,
    ) -> Tensor:
        scaled = torch.cat([row[..., :2] / self.scale, row[..., 2:]], dim=-1)
        view = torch.relu(self.raster(torch.tanh(canvas)))
        from_start = (position - start) / CENTRE
        return torch.cat([scaled, centred(position), from_start, view, condition, layout], dim=-1)

    def predict(self, h: Tensor, condition: Tensor, where: Where) -> Head:
        """Turn the LSTM's output (…, H) into the distribution of the next row."""
        M = self.preset.mixtures
        told = torch.cat([h, condition], dim=-1)
        out, rest = torch.split(self.head(told), [6 * M, 4], dim=-1)
        if h.dim() == 3:  # in training: only one row in ten begins a stroke
            first = where.begins[..., 0] > 0
            begun = self._begun(told[first], where.position[first], where.layout[first])
            out = out.index_put((first,), begun)
        else:
            begun = self._begun(told, where.position, where.layout)
            out = torch.where(where.begins > 0, begun, out)
        return self.head_of(out, rest)

    def head_of(self, out: Tensor, rest: Tensor) -> Head:
        """What the raw outputs ``out`` (…, 6 M), of offsets, and ``rest`` (…, 4) stand for."""
        mx, my, mixture, sx, sy, r = torch.split(out, [self.preset.mixtures] * 6, dim=-1)
        sigma = torch.exp(torch.stack([sx, sy], dim=-1)) + SIGMA_FLOOR / self.scale
        mean = torch.stack([mx, my], dim=-1)
        # A correlation near 1 makes the density of a point on the line explode.
        rho = 0.95 * torch.tanh(r)
        return Head(mixture, mean, sigma, rho, rest[..., :3], rest[..., 3])

    def _begun(self, told: Tensor, position: Tensor, layout: Tensor) -> Tensor:
        """A stroke begins somewhere in the frame, wherever the pen was lifted: (…, 6 M)."""
        M = self.preset.mixtures
        said = self.begin(torch.cat([told, layout], dim=-1))
        x, y, spread = torch.split(said, [M, M, 4 * M], dim=-1)
        away = (position - CENTRE) / self.scale
        frame = CENTRE / self.scale
        return torch.cat([x * frame - away[..., :1], y * frame - away[..., 1:], spread], dim=-1)

    # ---- drawing ---------------------------------------------------------------------------

    def step(
        self,
        state: State,
        condition: Tensor,
        noise: Tensor,
        temperature: Tensor,
        forced: Tensor,
        force: Tensor,
        may_end: Tensor,
    ) -> tuple[State, Tensor]:
        """Make the next row of every sequence.

        ``condition`` (B, C), ``noise`` (B, 5) uniforms in (0, 1), ``temperature`` (B, 1); where
        ``force`` (B, 1) is 1 the row is ``forced`` (B, 5) instead; p_end is sampled only where
        ``may_end`` (B, 1) is 1. Returns the state and ``segment_end`` (B, 1), which is sampled for
        forced rows as well, by the same noise.
        """
        heard = self.hear(state, condition)
        head = self.predict(heard.h, condition, heard.where)
        return self.act(heard, head, noise, temperature, forced, force, may_end)

    def hear(self, state: State, condition: Tensor) -> State:
        """Let the LSTM see the last row under ``condition`` (B, C); the pen stays where it is.

        Whoever lifted the pen, a stroke that is over by then is kept.
        """
        pen = state.pen
        lifted = pen.row[:, UP : UP + 1] > 0
        place = place_of(pen.start, pen.position, pen.stroke)
        last = self.layout.keep(place, state.told).unsqueeze(1)  # (B, 1, K)
        more = torch.cat([last, state.strokes[:, : STROKES - 1]], dim=1)
        strokes = torch.where(lifted.unsqueeze(-1), more, state.strokes)
        found = self.layout.look(condition, pen.position, strokes)
        layout = torch.where(lifted, found, state.layout)
        seen = self._features(pen.row, pen.position, pen.start, pen.canvas, condition, layout)
        h, c = self._cell(seen, state.h, state.c)
        return State(pen, h, c, strokes, self.layout.tell(condition), layout)

    def act(
        self,
        heard: State,
        head: Head,
        noise: Tensor,
        temperature: Tensor,
        forced: Tensor,
        force: Tensor,
        may_end: Tensor,
    ) -> tuple[State, Tensor]:
        """Draw the next row from ``head`` and move the pen; the rest as in `step`."""
        offset = sample_offset(head, noise, temperature) * self.scale
        offset = torch.round(offset * GRID) / GRID
        flags = sample_pen(head.pen, noise[:, 3:4], may_end)  # (B, 3)
        row = torch.cat([offset * (1 - flags[:, 2:3]), flags], dim=-1)
        row = forced * force + row * (1 - force)
        ends = (noise[:, 4:5] < torch.sigmoid(head.segment[:, None])).to(row.dtype)
        lifts = 1 - row[:, DOWN : DOWN + 1]
        segment_end = torch.maximum(ends * lifts, row[:, END : END + 1])
        return heard._replace(pen=move(heard.pen, row, self.preset.raster)), segment_end

    def _cell(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        w_x, w_h, b_x, b_h = self.lstm.all_weights[0]
        gates = functional.linear(x, w_x, b_x) + functional.linear(h, w_h, b_h)
        i, f, g, o = gates.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def initial_pen(rows: int, raster: int) -> Pen:
    """The pen before the first row: lifted, in the frame's centre, no ink."""
    row = torch.zeros(rows, 5)
    row[:, UP] = 1
    centre = torch.full((rows, 2), CENTRE)
    stroke = torch.zeros(rows, 6)
    return Pen(row, centre, centre.clone(), torch.zeros(rows, raster**2), stroke)


def initial_state(preset: DecoderPreset, rows: int) -> State:
    """The state before the first row."""
    zero = torch.zeros(rows, preset.width)
    return State(
        initial_pen(rows, preset.raster),
        h=zero,
        c=zero.clone(),
        strokes=torch.zeros(rows, STROKES, 2 * preset.layout + 1),
        told=torch.zeros(rows, TOLD),
        layout=torch.zeros(rows, preset.layout),
    )


def move(pen: Pen, row: Tensor, raster: int) -> Pen:
    """Let the pen make ``row`` (B, 5); the end row leaves everything where it is."""
    position = pen.position + row[:, :2]
    inked = pen.row[:, DOWN]  # (B,) the pen was down on the way
    ink = splat(pen.position, position, inked, raster)
    canvas = pen.canvas + ink * (1 - row[:, END : END + 1])
    begins = pen.row[:, UP : UP + 1] > 0
    start = torch.where(begins, position, pen.start)
    low, high, length, there = torch.split(pen.stroke, [2, 2, 1, 1], dim=-1)
    low = torch.where(begins, position, torch.minimum(low, position))
    high = torch.where(begins, position, torch.maximum(high, position))
    way = row[:, :2].abs().sum(dim=-1, keepdim=True) / FRAME
    length = torch.where(begins, 0.0, length + way)
    stroke = torch.cat([low, high, length, torch.ones_like(there)], dim=-1)
    return Pen(row, position, start, canvas, stroke)


def splat(origin: Tensor, target: Tensor, inked: Tensor, raster: int) -> Tensor:
    """Ink of moves from (…, 2) to (…, 2) on the raster: (…, G * G).

    A move with the pen down leaves its length in cells, spread bilinearly at `INK_SAMPLES`
    points; the first point of a stroke leaves a quarter of a cell, so that dots are seen.
    """
    cell = FRAME / raster
    left = 1 - torch.arange(1, INK_SAMPLES + 1) / INK_SAMPLES  # of the way, at each sample
    way = target - origin  # (…, 2)
    # Cells to the centre of every column and row, from every sample, as one product.
    of_way = torch.kron(-left, torch.eye(2)).T.repeat_interleave(raster, dim=0)  # (K 2 G, 2)
    of_target = torch.eye(2).repeat_interleave(raster, dim=0).repeat(INK_SAMPLES, 1)
    centres = (0.5 + torch.arange(raster)).repeat(2 * INK_SAMPLES)
    ends = torch.cat([target, way * inked.unsqueeze(-1)], dim=-1)  # (…, 4)
    away = functional.linear(ends, torch.cat([of_target, of_way], dim=1) / cell, -centres)
    hats = torch.unflatten(torch.relu(1 - away.abs()), -1, (INK_SAMPLES, 2, raster))
    length = way.abs().sum(dim=-1, keepdim=True) / cell  # (…, 1), city blocks: nothing to round
    weight = 0.25 / INK_SAMPLES + inked.unsqueeze(-1) * (length - 0.25) / INK_SAMPLES
    columns, lines = hats[..., 0, :], hats[..., 1, :]  # (…, K, G)
    ink: Tensor = (lines * weight.unsqueeze(-1)).transpose(-1, -2) @ columns
    return ink.flatten(-2)  # (…, G * G), row by row


def sample_offset(head: Head, noise: Tensor, temperature: Tensor) -> Tensor:
    """Draw offsets (B, 2), scaled: a component by inverse CDF, then Box-Muller.

    The temperature divides the logits and multiplies the variances, as in sketch-rnn.
    """
    pick = sample_component(head.mixture / temperature, noise[:, 0:1])  # (B, M)
    mean = (head.mean * pick.unsqueeze(-1)).sum(dim=1)  # (B, 2)
    sigma = (head.sigma * pick.unsqueeze(-1)).sum(dim=1) * torch.sqrt(temperature)
    rho = (head.rho * pick).sum(dim=1, keepdim=True)
    return mean + sigma * sample_normal(rho, noise[:, 1:2], noise[:, 2:3])


def sample_component(logits: Tensor, noise: Tensor) -> Tensor:
    """Draw a component, one-hot (B, M), from logits (B, M) and uniforms (B, 1)."""
    below = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    last = logits.shape[-1] - 1
    first = (below < noise).to(noise.dtype).sum(dim=-1, keepdim=True).clamp(max=last)
    return (torch.arange(last + 1.0) == first).to(noise.dtype)


def _directions() -> Tensor:
    """Unit vectors all around: (DIRECTIONS, 2)."""
    at = 2 * math.pi * (torch.arange(DIRECTIONS, dtype=torch.float64) + 0.5) / DIRECTIONS
    return torch.stack([torch.cos(at), torch.sin(at)], dim=1).float()


_DIRECTIONS = _directions()


def sample_normal(rho: Tensor, radius: Tensor, angle: Tensor) -> Tensor:
    """Draw pairs of normals (B, 2) of correlation ``rho`` (B, 1) from uniforms (B, 1) each.

    The angle is one of `DIRECTIONS`, so that no sine is computed, which rounds as it likes.
    """
    index = (angle[:, 0] * DIRECTIONS).to(torch.int64)
    around = _DIRECTIONS[index] * torch.sqrt(-2 * torch.log(radius))  # (B, 2)
    a, b = torch.split(around, [1, 1], dim=-1)
    return torch.cat([a, rho * a + torch.sqrt(1 - rho * rho) * b], dim=-1)


def sample_pen(logits: Tensor, noise: Tensor, may_end: Tensor) -> Tensor:
    """Draw the pen's flags, one-hot (B, 3), from logits (B, 3) and uniforms (B, 1).

    At temperature 1 always, unlike sketch-rnn: lifting is less likely than going on at every
    point, so that sharpening would make lines that run round and round.
    """
    barred = (may_end - 1) * torch.tensor([0.0, 0.0, 1e9])
    down, up, _ = torch.split(torch.softmax(logits + barred, dim=-1), 1, dim=-1)
    is_down = (noise < down).to(logits.dtype)
    is_up = (noise < down + up).to(logits.dtype) - is_down
    # With the end barred, rounding may leave a sliver above down + up: it lifts the pen.
    is_up = torch.maximum(is_up, (1 - is_down) * (1 - may_end))
    return torch.cat([is_down, is_up, 1 - is_down - is_up], dim=-1)
