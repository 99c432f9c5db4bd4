"""Whether the graphs do what the networks do, and rows what they do alone.

Rounding differs in the last bits between torch and ONNX Runtime, and the decoder rounds offsets to
its grid and compares uniforms with probabilities: a last bit may flip a choice, very rarely. So
state is compared within a tolerance, choices by how often they agree. Rows of one graph among
themselves are compared bit by bit: a drawing must not depend on what else is being drawn, and must
go on exactly from the points that were sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # has no types
import torch
from torch import Tensor, nn

from hitree.bundle import FP32
from hitree.drawing import Drawing
from hitree.segments import stroke_features
from hitree.stroke5 import snap
from hitree_export.decoder_step import PENS, Condition, ending, stride
from hitree_export.graphs import ExportError, GeneratorStep, decoder_steps
from hitree_export.sequences import SEQUENCES, draw
from hitree_training.models.decoder import Pen, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from hitree.bundle import StepGraph
    from hitree.bundle import Tensor as RowTensor
    from hitree_export.graphs import Graphs
    from hitree_export.networks import Networks
    from hitree_export.sequences import Array, Feed, Run
    from hitree_training.models.decoder import SketchDecoder

MOST_ROWS = 256  # a batch of the engine
TOLERANCE = 1e-3  # of state, log-probabilities and embeddings
AGREE_STEP = 0.99  # share of single rows whose choice agrees
AGREE_SEQUENCE = 0.9  # share of whole sequences that agree to the end
THREADS = (1, 2)  # bit equality is checked under each
ROW_BY_ROW = (FP32, "int8")  # precisions whose rows are alike in every batch, bit for bit
AGREE_HALF = 0.95  # share of single rows whose choice agrees in float16


class ParityError(ExportError):
    """A graph does not do what its network does."""


@dataclass(frozen=True)
class Report:
    """What was found."""

    step_agreement: float  # share of single decoder rows whose choice agrees with torch
    sequence_agreement: float  # share of whole sequences that agree to the end
    largest_difference: float  # of any compared state, embedding or log-probability


def check(networks: Networks, graphs: Graphs) -> Report:
    """Compare all graphs with their networks.

    Raises:
        ParityError: they differ, or a row depends on its neighbours.
    """
    drawn = _network(networks.decoder, graphs)
    differences = [
        drawn.largest_difference,
        *_precisions(networks.decoder, graphs),
        *_feed_forward(networks, graphs),
        _words(networks, graphs),
    ]
    for precision in ROW_BY_ROW:
        for threads in THREADS:
            run = _runner(graphs.step(precision), threads)
            check_neighbours(run, graphs.decoder)
            _check_alone(run, graphs.decoder)
            _check_resume(run, graphs.decoder)
    check_rows(_runner(graphs.files[graphs.decoder.rows]), graphs.decoder)
    return replace(drawn, largest_difference=max(differences))


# ---- the decoder -------------------------------------------------------------------------------


def _network(decoder: SketchDecoder, graphs: Graphs) -> Report:
    """The step in float32 against the network, whose conditions are not prepared."""
    graph, width = graphs.decoder, decoder.preset.condition
    run, prepare = _runner(graphs.step(FP32)), Condition(decoder).prepare
    raw = replace(graph, inputs=tuple(_resized(t, width) for t in graph.inputs))

    def ours(feed: Feed) -> Feed:
        with torch.inference_mode():
            condition = prepare(torch.from_numpy(feed["condition"])).numpy()
        return run(feed | {"condition": condition})

    theirs = _torch(_Plain(decoder), raw)
    agreement, difference = _one_step(ours, theirs, raw, AGREE_STEP)
    return Report(agreement, _sequences(ours, theirs, raw), difference)


class _Plain(nn.Module):
    """`SketchDecoder.step` in strides, with its state as plain tensors, as `DecoderStep` has it."""

    def __init__(self, decoder: SketchDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return stride(self._once, lambda condition: (condition,), *tensors)

    def _once(
        self, state: State, live: Tensor, condition: Sequence[Tensor], *told: Tensor
    ) -> tuple[State, Tensor]:
        made, segment_end = self.decoder.step(state, *condition, *told)
        new, old = (*made.pen, *made[1:]), (*state.pen, *state[1:])
        kept = [
            torch.where(live.view(-1, *[1] * (n.dim() - 1)), n, o)
            for n, o in zip(new, old, strict=True)
        ]
        return State(Pen(*kept[:PENS]), *kept[PENS:]), ending(made.pen.row, segment_end)


def _resized(tensor: RowTensor, condition: int) -> RowTensor:
    return replace(tensor, shape=(2, condition)) if tensor.name == "condition" else tensor


def _precisions(decoder: SketchDecoder, graphs: Graphs) -> Iterable[float]:
    """The step in other precisions against the same arithmetic in torch; the differences."""
    for name, step in decoder_steps(decoder).items():
        ours, theirs = _runner(graphs.step(name)), _torch(step, graphs.decoder)
        if name in ROW_BY_ROW:
            yield _one_step(ours, theirs, graphs.decoder, AGREE_STEP)[1]
            _sequences(ours, theirs, graphs.decoder)
        else:  # whose sums round differently wherever they are made
            yield _one_step(ours, theirs, graphs.decoder, AGREE_HALF)[1]


def _one_step(ours: Run, theirs: Run, graph: StepGraph, least: float) -> tuple[float, float]:
    """One row from many states: how often the choices agree, how far the rest is apart."""
    feed = mixed_rows(graph, MOST_ROWS, seed=1)
    feed["limit"] = np.repeat(np.array([[1, 0]], np.float32), MOST_ROWS, axis=0)
    found, expected = _first(ours(feed)), _first(theirs(feed))
    same = np.isclose(found["points"], expected["points"]).all(axis=(1, 2))
    _require(same.mean() >= least, f"{same.mean():.1%} of single rows agree with torch")
    apart = max(_apart(name, found[name][same], expected[name][same]) for name in found)
    return float(same.mean()), apart


def _first(found: Feed) -> Feed:
    """What a step made, without what lies beyond the first point of each sequence."""
    return found | {"points": found["points"][:, :1]}


def _sequences(ours: Run, theirs: Run, graph: StepGraph) -> float:
    """Whole sequences under the same noise: the share that agrees to the end."""
    feed = mixed_rows(graph, SEQUENCES, seed=2)
    close = np.isclose(draw(ours, graph, feed).points, draw(theirs, graph, feed).points)
    same = np.asarray(close).all(axis=(0, 2))  # (length, rows, 3) -> (rows,)
    _require(same.mean() >= AGREE_SEQUENCE, f"{same.mean():.1%} of sequences agree with torch")
    return float(same.mean())


def check_neighbours(run: Run, graph: StepGraph) -> None:
    """Rows of batches of every size from 1 to 256 against one batch of 256, bit by bit.

    Raises:
        ParityError: a row differs.
    """
    feed = mixed_rows(graph, MOST_ROWS, seed=3)
    whole = run(feed)
    rng = np.random.default_rng(4)
    for size in range(1, MOST_ROWS):
        at = int(rng.integers(0, MOST_ROWS - size + 1))
        part = run({name: value[at : at + size] for name, value in feed.items()})
        for name, value in part.items():
            _require(
                value.tobytes() == whole[name][at : at + size].tobytes(),
                f"{name} of a row in a batch of {size} differs from the same row among "
                f"{MOST_ROWS}; rows must not depend on their neighbours",
            )


def _check_alone(run: Run, graph: StepGraph) -> None:
    """Whole sequences in a batch against the same ones drawn alone, bit by bit."""
    feed = mixed_rows(graph, SEQUENCES, seed=5)
    together = draw(run, graph, feed).points
    for row in range(0, SEQUENCES, SEQUENCES // 4):
        one = {name: value[row : row + 1] for name, value in feed.items()}
        alone = draw(run, graph, one, first=row).points
        _require(
            alone.tobytes() == together[:, row : row + 1].tobytes(),
            "a sequence drawn alone differs from the same one drawn in a batch",
        )


def _check_resume(run: Run, graph: StepGraph) -> None:
    """The state rebuilt from the points that were sent against the state itself, bit by bit.

    No step goes on to the next leaf as it is rebuilt: those that did are checked by the way.
    """
    feed = mixed_rows(graph, SEQUENCES, seed=9)
    drawn = draw(run, graph, feed)
    rebuilt = draw(run, graph, feed, sent=drawn.points)
    again = rebuilt.state | {"points": rebuilt.points}
    for name, value in (drawn.state | {"points": drawn.points}).items():
        _require(
            np.array_equal(again[name], value),
            f"{name} rebuilt from the points differs from what it was; drawings cannot resume",
        )


def check_rows(run: Run, graph: StepGraph) -> None:
    """The graph that moves rows of state against numpy, bit by bit, at several sizes.

    Raises:
        ParityError: a row is not what it should be.
    """
    rng = np.random.default_rng(10)
    for rows, fresh, wanted in ((8, 1, 8), (64, 5, 64), (3, 2, 1)):
        index = rng.integers(0, rows + fresh, wanted)
        old, new = mixed_rows(graph, rows, seed=11), mixed_rows(graph, fresh, seed=12)
        feed: Feed = {"index": index}
        for tensor in graph.state:
            feed |= {tensor.name: old[tensor.name], f"{tensor.name}_fresh": new[tensor.name]}
        found = run(feed)
        for tensor in graph.state:
            expected = np.concatenate([old[tensor.name], new[tensor.name]])[index]
            _require(
                found[tensor.output].tobytes() == expected.tobytes(),
                f"{tensor.name} is moved to other rows than it should be",
            )


def mixed_rows(graph: StepGraph, rows: int, seed: int) -> Feed:
    """Inputs and states of all kinds side by side: forced and free, hot and cold, begun and not."""
    rng = np.random.default_rng(seed)
    tensors = (*graph.inputs, *graph.state)
    feed: Feed = {t.name: rng.random((rows, *t.shape), dtype=np.float32) for t in tensors}
    feed["noise"] = np.clip(feed["noise"].astype(np.float32), 1e-6, 1 - 1e-6)
    flags = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (rows, graph.stride + 1))]
    moves = rng.integers(-80, 80, (rows, graph.stride + 1, 2)).astype(np.float32) / 4
    made = np.concatenate([moves, flags], axis=2)
    feed["forced"], feed["row"] = made[:, 1:], made[:, 0]
    feed["force"] = (rng.random((rows, graph.stride)) < 0.2).astype(np.float32)
    for name in ("last", "begun"):
        feed[name] = (feed[name] < 0.7).astype(np.float32)
    feed["limit"] = rng.integers(0, graph.stride + 1, (rows, 2)).astype(np.float32)
    feed["temperature"] = feed["temperature"] * np.float32(1.2) + np.float32(0.1)
    for name in ("position", "start"):
        feed[name] = snap(feed[name].astype(np.float32) * 256)
    feed["strokes"][..., -1] = np.rint(feed["strokes"][..., -1])  # whether it is there
    for name in ("condition", "h", "c"):
        feed[name] = feed[name] * np.float32(2) - np.float32(1)
    return feed


# ---- the other graphs --------------------------------------------------------------------------


def _feed_forward(networks: Networks, graphs: Graphs) -> Iterable[float]:
    """Every graph at sizes other than those that it was traced with; the differences."""
    rng = np.random.default_rng(7)
    width = networks.token_width

    def vectors(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal((*shape, width), dtype=np.float32)

    mask = (np.arange(9) < rng.integers(1, 10, (5, 3, 1))).astype(np.float32)  # (5, 3, 9)
    mask[::2, 2] = 0  # levels that do not exist
    stack = {"stack": vectors(5, 3, 9), "stack_mask": mask, "subject": vectors(5)}
    texts = {"tokens": vectors(5, 9), "mask": mask[:, 0]}
    spans = np.array([(i, j) for i in range(11) for j in range(i + 1, 12)], np.int64)
    strokes = stroke_features(_scribble(rng, strokes=11))
    segments: Feed = {"strokes": strokes, "spans": spans[spans[:, 1] <= len(strokes)]}
    decoder, generator, scorer = networks.decoder, networks.generator, networks.scorer
    G = networks.classifier.size
    cases: dict[str, tuple[Callable[..., Tensor], Feed]] = {
        "condition": (Condition(decoder), dict(stack)),
        "generator_expand": (generator.expand, dict(stack)),
        "generator_describe": (
            generator.describe,
            segments | {"subject": vectors(len(segments["spans"]))},
        ),
        "scorer_segments": (scorer.segments, segments),
        "scorer_texts": (scorer.texts, dict(texts)),
        "scorer_unity": (scorer.unity, dict(segments)),
        "classifier": (networks.classifier, {"images": rng.random((5, 1, G, G), np.float32)}),
    }
    for name, (function, feed) in cases.items():
        (found,) = _runner(graphs.files[graphs.feed_forward[name]])(feed).values()
        with torch.inference_mode():
            expected = function(*(torch.from_numpy(value) for value in feed.values())).numpy()
        yield _apart(name, found, expected)


def _scribble(rng: np.random.Generator, strokes: int) -> Drawing:
    """Lines as pens make them: in noise without any, rounding counts for more than it does."""
    starts, sizes = rng.uniform(30, 220, (strokes, 2)), rng.integers(2, 20, strokes)
    ways = [rng.normal(0, 12, (size, 2)).cumsum(axis=0) for size in sizes]
    return Drawing.of(
        [np.clip(start + way, 0, 255) for start, way in zip(starts, ways, strict=True)]
    )


def _words(networks: Networks, graphs: Graphs) -> float:
    """The generator's step over whole sentences of the same words."""
    graph = graphs.generator
    ours = _runner(graphs.files[graph.file])
    theirs = _torch(GeneratorStep(networks.generator), graph)
    rng = np.random.default_rng(8)
    hidden, words = graph.state[0].shape[0], graph.outputs[0].shape[0]
    context = np.tanh(rng.standard_normal((5, hidden), dtype=np.float32))
    states = [context, context]
    largest = 0.0
    for _ in range(12):
        token = rng.integers(0, words, 5)
        outs = [
            run({"token": token, "context": context, "h": h})
            for run, h in zip((ours, theirs), states, strict=True)
        ]
        largest = max(largest, *(_apart(f"generator {n}", outs[0][n], outs[1][n]) for n in outs[0]))
        states = [out["h_out"] for out in outs]
    return largest


# ---- running and comparing -----------------------------------------------------------------------


def _runner(model: bytes, threads: int = 1) -> Run:
    """A graph on the CPU as a function from named arrays to named arrays."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # runs are short
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> Feed:
        return dict(zip(names, session.run(names, feed), strict=True))

    return run


def _torch(module: nn.Module, graph: StepGraph) -> Run:
    """A step as torch runs it, under the names of its graph."""
    module.eval()
    inputs = [t.name for t in (*graph.inputs, *graph.state)]
    outputs = [t.name for t in graph.outputs] + [t.output for t in graph.state]

    @torch.inference_mode()
    def run(feed: Feed) -> Feed:
        results = module(*(torch.from_numpy(feed[name]) for name in inputs))
        return {name: r.numpy() for name, r in zip(outputs, results, strict=True)}

    return run


def _apart(name: str, found: Array, expected: Array) -> float:
    """The largest difference, which must be within the tolerance."""
    _require(found.shape == expected.shape, f"{name} has shape {found.shape}, {expected.shape} due")
    largest = float(np.abs(found - expected).max(initial=0.0))
    _require(largest <= TOLERANCE, f"{name} is {largest:.2g} off what torch computes")
    return largest


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ParityError(f"{message}; nothing was written")
