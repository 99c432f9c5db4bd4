"""What each precision of the decoder's step costs: ``hitree-export precisions``.

The figure is the NLL that drawings have under the step, computed row by row as it is served, with
the arithmetic of each precision; what a precision loses is its difference to float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from hitree.stroke5 import END
from hitree_export import networks
from hitree_export.decoder_step import Condition
from hitree_export.graphs import decoder_steps
from hitree_training import data
from hitree_training.models.decoder import initial_state, move
from hitree_training.models.decoder_loss import losses
from hitree_training.sequences import NO_AUGMENTATION, Sequences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hitree.bundle import Bundle
    from hitree_export.decoder_step import DecoderStep
    from hitree_training.models.decoder import SketchDecoder
    from hitree_training.sequences import Batch

BATCH = 64  # drawings


def measure(
    bundle: Bundle,
    folder: Path | None,
    split: str = "test",
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, float]]:
    """NLL in nats a point, by kind of drawing and precision; annotated drawings under their steps.

    Raises:
        hitree_training.data.DataError: there are no annotated drawings.
        hitree_export.graphs.ExportError: see `networks.of_bundle`.
    """
    decoder = cast("SketchDecoder", networks.of_bundle(bundle).decoder)
    examples = [e for e in data.load(folder, splits=(split,)) if e.annotation]
    found: dict[str, dict[str, float]] = {}
    for kind in sorted({e.kind for e in examples}):
        sequences = Sequences([e for e in examples if e.kind == kind], "stack")
        found[kind] = {}
        for name, step in decoder_steps(decoder).items():
            note(f"{kind}, {name}")
            found[kind][name] = nll(step, sequences)
    return found


@torch.inference_mode()
def nll(step: DecoderStep, sequences: Sequences) -> float:
    """Nats a point of drawings under the step, the first point of each not counted."""
    generator = torch.Generator().manual_seed(0)
    cost = points = 0.0
    for index in torch.split(sequences.lengths.argsort(), BATCH):
        batch = sequences.batch(index, generator, NO_AUGMENTATION)
        cost += float(_score(step, batch).sum())
        points += float(batch.valid[:, 1:].sum())
    return cost / points


def _score(step: DecoderStep, batch: Batch) -> torch.Tensor:
    """What rows of (B, T) cost under the step but the first, each drawing at a time."""
    decoder = step.decoder
    encoded = decoder.encode(batch.stacks, batch.stack_mask, batch.subject)
    prepared = Condition(decoder).prepare(encoded)
    state, total = initial_state(decoder.preset, len(batch.rows)), torch.zeros(len(batch.rows))
    live = torch.ones((len(batch.rows), 1), dtype=torch.bool)
    for t in range(batch.rows.shape[1]):
        row = batch.rows[:, t]
        state, said = step.hear(state, step.parts(prepared[batch.segment[:, t]]), live)
        head = decoder.head_of(*torch.split(said, [6 * decoder.preset.mixtures, 4], dim=-1))
        found = losses(head, row, batch.segment_end[:, t], decoder.scale)
        if t > 0:
            total += (found.offset * (1 - row[:, END]) + found.pen) * batch.valid[:, t]
        state = state._replace(pen=move(state.pen, row, decoder.preset.raster))
    return total
