"""The largest product of the decoder's step, in the precisions that it is served in.

Rows must not depend on their neighbours, so activations are quantised with steps that are fixed at
export, never with those of a batch. Weights have 7 bits: AVX2 adds products of 8-bit numbers in
pairs of 16 bits, which overflow with 8; as it is, sums are exact, and alike on every machine.

Shapes: B rows, H width of the LSTM, S numbers that are seen beside geometry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol  # Any: of the exporter, which has no public types

import torch
from torch import Tensor, nn
from torch.nn import functional

from hitree.drawing import CENTRE
from hitree_training import data
from hitree_training.sequences import NO_AUGMENTATION, Sequences

if TYPE_CHECKING:
    from hitree_training.models.decoder import SketchDecoder

GEOMETRY = 9  # numbers of the last row, the pen's position and the stroke's start
ZERO, MOST = 128, 127  # of activations in int8, and the steps on one side of it
MOST_WEIGHT = 63  # steps of a weight on one side of zero
DRAWINGS = 256  # that activations are looked at in
ROOM = 1.1  # over the largest activation seen in them; what is larger still is clipped


class Gates:
    """An LSTM's weights by what they are for, its gates in the order in, forget, out, new.

    The scales and centres of what is seen are part of them, so that it is seen as it is.
    """

    def __init__(self, d: SketchDecoder) -> None:
        p = d.preset
        sizes = [GEOMETRY, p.raster_features, p.condition, p.layout]
        of_seen, of_h, bias, bias_h = d.lstm.all_weights[0]
        parts = torch.split(_reordered(of_seen), sizes, dim=1)
        geometry, view, self.condition, layout = parts  # self.condition: (4 H, C)
        offset, pen, position, from_start = torch.split(geometry, [2, 3, 2, 2], dim=1)
        self.geometry = torch.cat(
            [offset / d.scale, pen, (position + from_start) / CENTRE, -from_start / CENTRE], dim=1
        )  # (4 H, GEOMETRY)
        self.seen = torch.cat([view, layout, _reordered(of_h)], dim=1)  # (4 H, S)
        self.bias = _reordered(bias + bias_h) - position.sum(dim=1)


def _reordered(weight: Tensor) -> Tensor:
    """An LSTM's weights with the output gate before the new content; torch has it after."""
    i, f, g, o = weight.chunk(4)
    return torch.cat([i, f, o, g])


class Product(Protocol):
    """What all gates make of what a row sees: (B, GEOMETRY) and (B, S) to (B, 4 H)."""

    def __call__(self, gates: Gates, geometry: Tensor, seen: Tensor) -> Tensor:
        """``gates`` are the network's; a product of less precision may have its own."""
        ...


def exact(gates: Gates, geometry: Tensor, seen: Tensor) -> Tensor:
    """In float32."""
    weight = torch.cat([gates.geometry, gates.seen], dim=1)
    return functional.linear(torch.cat([geometry, seen], dim=-1), weight)


class Half(nn.Module):
    """In float16, but for geometry, whose numbers are large."""

    weight: Tensor

    def __init__(self, decoder: SketchDecoder) -> None:
        super().__init__()
        self.register_buffer("weight", Gates(decoder).seen.detach().half())

    def forward(self, gates: Gates, geometry: Tensor, seen: Tensor) -> Tensor:
        product = functional.linear(seen.half(), self.weight).float()
        return product + functional.linear(geometry, gates.geometry)


class Quantised(nn.Module):
    """In int8, but for geometry."""

    steps: Tensor
    step: Tensor
    weight: Tensor

    def __init__(self, decoder: SketchDecoder, reach: Tensor) -> None:
        """``reach`` (S,): how large each number that is seen gets."""
        super().__init__()
        weight = Gates(decoder).seen.detach() * reach / MOST
        step = weight.abs().amax(dim=1) / MOST_WEIGHT  # (4 H,)
        self.register_buffer("steps", MOST / reach)  # (S,) in one
        self.register_buffer("step", step)
        self.register_buffer("weight", torch.round(weight / step[:, None]).to(torch.int8).T)

    def forward(self, gates: Gates, geometry: Tensor, seen: Tensor) -> Tensor:
        parts = seen * self.steps, self.weight, self.step
        product: Tensor = _Int8.apply(*parts)  # type: ignore[no-untyped-call]
        return product + functional.linear(geometry, gates.geometry)


class _Int8(torch.autograd.Function):
    """``x`` (B, S) in steps times whole numbers ``weight`` (S, N), each of ``step`` (N,)."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, weight: Tensor, step: Tensor) -> Tensor:
        whole = torch.round(x).clamp(-ZERO, MOST)
        return (whole @ weight.float()) * step  # sums are below 2^24, so float32 has them exactly

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, step: Any) -> Any:
        one, zero = torch.tensor(1.0), torch.tensor(ZERO, dtype=torch.uint8)
        scale = g.op("Constant", value_t=one), g.op("Constant", value_t=zero)
        seen = g.op("DequantizeLinear", g.op("QuantizeLinear", x, *scale), *scale)
        product = g.op("MatMul", seen, g.op("DequantizeLinear", weight, step, axis_i=1))
        return product.setType(x.type().with_sizes([None, step.type().sizes()[0]]))


@torch.inference_mode()
def reach(decoder: SketchDecoder) -> Tensor:
    """How large everything gets that the gates see beside geometry, in built-in drawings: (S,)."""
    sequences = Sequences(data.load(None), "stack")
    index = torch.arange(0, len(sequences), max(1, len(sequences) // DRAWINGS))
    batch = sequences.batch(index, torch.Generator().manual_seed(0), NO_AUGMENTATION)
    encoded = decoder.encode(batch.stacks, batch.stack_mask, batch.subject)
    condition = encoded[batch.segment]
    seen, where = decoder.observe(batch.rows, condition)
    hidden, _ = decoder.lstm(seen)
    p = decoder.preset
    view = seen[..., GEOMETRY : GEOMETRY + p.raster_features]
    everything = torch.cat([view, where.layout, hidden], dim=-1)[batch.valid > 0]
    return (everything.abs().amax(dim=0) * ROOM).clamp(min=1e-3)
