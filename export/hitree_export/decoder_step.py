"""The sketch decoder's step as it is served: the network's numbers, in the form that is fastest.

What a step needs of the instruction stack does not change while a leaf is drawn, so the graph
``condition`` makes it once, and the step adds it: `Condition`. All that the LSTM sees is multiplied
at once. What a stroke's beginning asks for (one row in ten) is done with those rows alone, or with
all of them where a device wants the same work in every step.

A served step draws several rows of every sequence, one after the other, and goes on to the next
leaf where a segment ends, so that what its caller does between steps is done less often. It
computes what `SketchDecoder.step` computes, called as often, but for rounding.

Shapes: as in `hitree_training.models.decoder`; k rows of B whose stroke begins; S rows that a step
draws of a sequence at most; an axis of 2 is the leaf at hand and the one after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast  # Any: the exporter's graph context has no public type

import torch
from torch import Tensor, nn
from torch.nn import functional

from hitree.drawing import CENTRE
from hitree.stroke5 import DOWN, DRAWING, END, GRID, ROW, SEGMENT, UP
from hitree_export.products import Gates, Product, exact
from hitree_training.models.decoder import (
    SIGMA_FLOOR,
    Pen,
    State,
    move,
    sample_component,
    sample_normal,
    sample_pen,
)
from hitree_training.models.layout import STROKES, TOLD, place_of

if TYPE_CHECKING:
    from hitree_training.models.decoder import SketchDecoder

PENS = len(Pen._fields)
NOISE = 5  # uniforms that a row takes

# Draws a row of the sequences that are live: of a state, what is live (B, 1), the condition, and
# the rest of `SketchDecoder.step`'s inputs; returns the state and what ends with the row (B, 1).
Once = Callable[..., tuple[State, Tensor]]
Parts = Callable[[Tensor], Sequence[Tensor]]


class Condition(nn.Module):
    """Stacks (B, L, T, E), their masks and subjects, as all that steps make of them: (B, P).

    In the order of `widths`: for the LSTM's gates, the head, the head of beginnings and the query
    among finished strokes, and what a stroke drawn under it remembers.
    """

    def __init__(self, decoder: SketchDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, stack: Tensor, stack_mask: Tensor, subject: Tensor) -> Tensor:
        return self.prepare(self.decoder.encode(stack, stack_mask, subject))

    def prepare(self, condition: Tensor) -> Tensor:
        """The same of encoded conditions (B, C)."""
        d = self.decoder
        H, C = d.preset.width, d.preset.condition
        gates, head, query = Gates(d), d.head, d.layout.query
        begin = cast("nn.Linear", d.begin[0])
        weight = torch.cat([
            gates.condition, head.weight[:, H:], begin.weight[:, H : H + C], query.weight[:, :C],
        ])  # fmt: skip
        asking = query.bias - query.weight[:, C:].sum(dim=1)  # from the frame's centre
        bias = torch.cat([gates.bias, head.bias, begin.bias, asking])
        prepared = functional.linear(condition, weight, bias)
        return torch.cat([prepared, d.layout.tell(condition)], dim=-1)


def widths(decoder: SketchDecoder) -> list[int]:
    """How wide the parts of a prepared condition are; P is their sum."""
    p = decoder.preset
    return [4 * p.width, 6 * p.mixtures + 4, p.begin, p.layout, TOLD]


def stride(once: Once, parts: Parts, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Draw up to S rows of every sequence, ``once`` at a time.

    ``parts`` cuts conditions up into what ``once`` takes of them; ``tensors`` are the graph's
    inputs (`hitree.bundle.StepGraph` says what they hold) and the state. Returns the points
    (B, S, 3), how many rows were drawn under either leaf (B, 2), and the state as it was after the
    last one of these.
    """
    noise, temperature, condition, forced, force, last, begun, limit, *rest = tensors
    state, S = State(Pen(*rest[:PENS]), *rest[PENS:]), forced.shape[1]
    conditions = parts(condition.reshape(-1, condition.shape[2]))  # of every leaf: (2 B, …)
    chances, row = _chances(noise, last, begun), torch.arange(noise.shape[0]).unsqueeze(1)
    first, second = row * 2 * S, row * 2 * S + S
    until, more = torch.split(limit.to(torch.int64), 1, dim=1)
    # Where a sequence is among its chances, and where it stops; where it was when it turned.
    at, stop, turn = first, first + until, first
    live, turned = at < stop, more < 0
    state = _lifted(state, live & (begun < 1))
    points = list[Tensor]()
    for index in range(S):
        told, may_end = torch.split(chances.index_select(0, at.reshape(-1)), [NOISE, 1], dim=1)
        given = forced[:, index], force[:, index : index + 1], may_end
        which = (row * 2 + turned).reshape(-1)
        under = [part.index_select(0, which) for part in conditions]
        state, ends = once(state, live, under, told, temperature, *given)
        points.append(torch.cat([state.pen.position, ends], dim=1))
        at = at + live
        if index < S - 1:
            turns = live & ~turned & (ends == SEGMENT)
            stop = torch.where(ends < SEGMENT, stop, torch.where(turns, second + more, first))
            turn, at = torch.where(turns, at, turn), torch.where(turns, second, at)
            turned, live = turned | turns, at < stop
    made = torch.cat([torch.where(turned, turn, at) - first, (at - second) * turned], dim=1)
    return torch.stack(points, dim=1), made.to(limit.dtype), *state.pen, *state[1:]


def _chances(noise: Tensor, last: Tensor, begun: Tensor) -> Tensor:
    """Uniforms, and whether the drawing may end with them: (B 2 S, N + 1).

    S of each sequence are under the leaf at hand, S under the next one.
    """
    may_end = torch.stack([last] * noise.shape[2], dim=2)  # (B, 2, S)
    firsts = torch.stack([begun * last[:, :1], 0 * begun], dim=1)
    may_end = torch.cat([firsts, may_end[:, :, 1:]], dim=2).unsqueeze(-1)
    return torch.cat([noise, may_end], dim=3).reshape(-1, NOISE + 1)


def _lifted(state: State, begins: Tensor) -> State:
    """The pen is up where a leaf ``begins`` (B, 1): no stroke crosses leaves."""
    row = state.pen.row
    flags = torch.where(begins, torch.eye(ROW)[UP, DOWN:], row[:, DOWN:])
    return state._replace(pen=state.pen._replace(row=torch.cat([row[:, :DOWN], flags], dim=1)))


class DecoderStep(nn.Module):
    """A step, with its state as plain tensors in the order of `State`; see `stride`."""

    def __init__(
        self, decoder: SketchDecoder, product: Product = exact, *, dense: bool = False
    ) -> None:
        """``product`` makes the largest of the products; ``dense``: all work is done always."""
        super().__init__()
        self.decoder = decoder
        self.product = product
        self._dense = dense

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return stride(self.once, self.parts, *tensors)

    def parts(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Prepared conditions (B, P), as `hear` takes them."""
        return torch.split(condition, widths(self.decoder), dim=-1)

    def once(
        self, state: State, live: Tensor, condition: Sequence[Tensor], *told: Tensor
    ) -> tuple[State, Tensor]:
        """The next row of all that are ``live`` (B, 1); the others stay what they are."""
        heard, said = self.hear(state, condition, live)
        row, ends = self._act(said, *told)
        pen = move(heard.pen, row, self.decoder.preset.raster)
        pen = Pen(*(torch.where(live, new, old) for new, old in zip(pen, state.pen, strict=True)))
        h, c = torch.where(live, heard.h, state.h), torch.where(live, heard.c, state.c)
        return heard._replace(pen=pen, h=h, c=c), ends

    def hear(self, state: State, condition: Sequence[Tensor], live: Tensor) -> tuple[State, Tensor]:
        """See the last row; what the next one is drawn from comes raw: (B, 6 M + 4).

        Rows that are not ``live`` keep no strokes, and what they were drawn under.
        """
        d, pen = self.decoder, state.pen
        M, H, C = d.preset.mixtures, d.preset.width, d.preset.condition
        gates, head, begin, query, told = condition
        begins = _Rows((pen.row[:, UP : UP + 1] > 0) & live, dense=self._dense)
        position = begins.of(pen.position)
        place = place_of(begins.of(pen.start), position, begins.of(pen.stroke))
        last = d.layout.keep(place, begins.of(state.told)).unsqueeze(1)  # (k, 1, K)
        kept = torch.cat([last, begins.of(state.strokes)[:, : STROKES - 1]], dim=1)
        weight = d.layout.query.weight[:, C:] / CENTRE
        found = d.layout.find(functional.linear(position, weight) + begins.of(query), kept)
        layout = begins.put(state.layout, found)
        h, c = self._cell(state, layout, gates)
        said = functional.linear(h, d.head.weight[:, :H]) + head
        begun = self._begun(begins.of(h), found, begins.of(begin), position)
        said = begins.put(said, torch.cat([begun, begins.of(said)[:, 6 * M :]], dim=-1))
        told = torch.where(live, told, state.told)
        return State(pen, h, c, begins.put(state.strokes, kept), told, layout), said

    def _cell(self, state: State, layout: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        d, H = self.decoder, self.decoder.preset.width
        geometry = torch.cat([state.pen.row, state.pen.position, state.pen.start], dim=-1)
        view = torch.relu(d.raster(torch.tanh(state.pen.canvas)))
        seen = torch.cat([view, layout, state.h], dim=-1)
        gates = self.product(Gates(d), geometry, seen) + condition
        let, new = torch.split(gates, [3 * H, H], dim=-1)
        i, f, o = torch.split(torch.sigmoid(let), [H, H, H], dim=-1)
        c = f * state.c + i * torch.tanh(new)
        return o * torch.tanh(c), c

    def _begun(self, h: Tensor, layout: Tensor, condition: Tensor, position: Tensor) -> Tensor:
        """What is said of a stroke's first point, as an offset from ``position``: (k, 6 M)."""
        d, M = self.decoder, self.decoder.preset.mixtures
        H, C = d.preset.width, d.preset.condition
        inner, out = cast("nn.Linear", d.begin[0]), cast("nn.Linear", d.begin[2])
        weight = torch.cat([inner.weight[:, :H], inner.weight[:, H + C :]], dim=1)
        hidden = torch.relu(functional.linear(torch.cat([h, layout], dim=-1), weight) + condition)
        frame = torch.cat([torch.full((2 * M,), CENTRE / d.scale), torch.ones(4 * M)])
        away = torch.zeros(6 * M, 2)  # where the pen is, is taken off the means of x and y
        away[:M, 0] = away[M : 2 * M, 1] = -1 / d.scale
        weight = torch.cat([out.weight * frame[:, None], away], dim=1)
        bias = out.bias * frame - CENTRE * away.sum(dim=1)
        return functional.linear(torch.cat([hidden, position], dim=-1), weight, bias)

    def _act(
        self,
        said: Tensor,
        noise: Tensor,
        temperature: Tensor,
        forced: Tensor,
        force: Tensor,
        may_end: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Draw the next row, (B, 5), and what ends with it, (B, 1)."""
        d, M = self.decoder, self.decoder.preset.mixtures
        for_component, for_radius, for_angle, for_pen, for_end = torch.split(noise, 1, dim=-1)
        mixtures, pen, segment = torch.split(said, [6 * M, 3, 1], dim=-1)
        mixtures = mixtures.reshape(-1, 6, M)
        pick = sample_component(mixtures[:, 2] / temperature, for_component).unsqueeze(-1)
        picked = (mixtures @ pick).squeeze(-1)  # (B, 6)
        mean, _, spread, r = torch.split(picked, [2, 1, 2, 1], dim=-1)
        sigma = (torch.exp(spread) + SIGMA_FLOOR / d.scale) * torch.sqrt(temperature)
        drawn = mean + sigma * sample_normal(0.95 * torch.tanh(r), for_radius, for_angle)
        offset = torch.round(drawn * (d.scale * GRID)) / GRID
        flags = sample_pen(pen, for_pen, may_end)  # (B, 3)
        row = torch.cat([offset * (1 - flags[:, END - DOWN :]), flags], dim=-1)
        row = torch.where(force > 0, forced, row)
        leaves = (for_end < torch.sigmoid(segment)).to(row.dtype)
        return row, ending(row, leaves)


def ending(row: Tensor, segment_end: Tensor) -> Tensor:
    """What ends with rows (B, 5), as in `hitree.stroke5`; a segment may with a stroke: (B, 1)."""
    _, up, end = torch.split(row[:, DOWN:], 1, dim=1)
    return up * (1 + segment_end) + DRAWING * end


class _Rows:
    """Some rows of a batch, k of B; or all of them, to be put back where they are meant."""

    def __init__(self, meant: Tensor, *, dense: bool) -> None:
        """``meant`` (B, 1) is boolean."""
        self._meant = meant
        self._at = None if dense else torch.nonzero(meant[:, 0])  # (k, 1)

    def of(self, x: Tensor) -> Tensor:
        """These rows of ``x`` (B, …): (k, …)."""
        return x if self._at is None else x.index_select(0, self._at.squeeze(1))

    def put(self, x: Tensor, values: Tensor) -> Tensor:
        """``x`` (B, …) with ``values`` (k, …) in these rows."""
        if self._at is not None:
            replaced: Tensor = _Scatter.apply(x, self._at, values)  # type: ignore[no-untyped-call]
            return replaced
        return torch.where(self._meant.unsqueeze(-1) if x.dim() == 3 else self._meant, values, x)


class _Scatter(torch.autograd.Function):
    """Rows replaced, as one node; what the exporter makes of torch's own functions is many."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, at: Tensor, values: Tensor) -> Tensor:
        return x.index_copy(0, at.squeeze(1), values)

    @staticmethod
    def symbolic(g: Any, x: Any, at: Any, values: Any) -> Any:
        return g.op("ScatterND", x, at, values).setType(x.type())
