"""The networks as ONNX graphs, with the names that the service goes by.

Recurrent models are exported one step at a time, as plain products and gates with the state going
in and out; there are no loops and no recurrent operators in any graph. The decoder's step samples
inside, fed by uniforms, so that points come out and no mixture parameters.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import torch
from torch import Tensor, nn

from hitree import bundle
from hitree.bundle import FP32
from hitree.stroke5 import ROW
from hitree_export.decoder_step import NOISE, Condition, DecoderStep, widths
from hitree_export.products import Half, Quantised, reach
from hitree_export.rows import rows_graph
from hitree_export.symbolics import IR_VERSION, OPSET, row_independent
from hitree_training.models.decoder import Pen, SketchDecoder, State, initial_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree_training.models.classifier import Classifier
    from hitree_training.models.generator import Generator
    from hitree_training.models.scorer import Scorer

FORBIDDEN = frozenset({"Loop", "Scan", "If", "LSTM", "GRU", "RNN"})
STRIDE = 4  # rows of a sequence that one of its steps draws at most
ROWS = 3  # of the example inputs: no size that a broadcast could be mistaken for
STROKES, TOKENS, LEVELS = 7, 6, 4  # of the example inputs
POINTS, FEATURES = 32, 4  # of a stroke, see hitree.segments

WRAPPERS = frozenset({"network", "decoder", "generator"})  # what weights' names may begin with

Axes = dict[int, str]


class ExportError(Exception):
    """A network cannot be exported as the service needs it."""


@dataclass(frozen=True)
class Graphs:
    """All graphs of a bundle."""

    files: dict[str, bytes]  # file name -> ONNX model
    feed_forward: dict[str, str]  # graph name -> file name
    decoder: bundle.StepGraph
    generator: bundle.StepGraph

    def step(self, precision: str) -> bytes:
        """The decoder's step in a precision."""
        return self.files[self.decoder.choose("", precision)[1]]


@dataclass(frozen=True)
class Input:
    """An example input, and its axes that may have any length."""

    value: Tensor
    axes: Axes


def export_all(
    decoder: SketchDecoder, generator: Generator, scorer: Scorer, classifier: Classifier
) -> Graphs:
    """Export every graph.

    Raises:
        ExportError: a graph holds operators that it must not.
    """
    feed_forward = {
        "condition": _condition(decoder),
        "scorer_segments": _scorer_segments(scorer),
        "scorer_texts": _scorer_texts(scorer),
        "scorer_unity": _scorer_unity(scorer),
        "generator_describe": generator_describe(generator),
        "generator_expand": _generator_expand(generator),
        "classifier": _classifier(classifier),
    }
    drawing = decoder_graph(decoder)
    words, writing = generator_step(generator)
    files = {f"{name}.onnx": data for name, data in feed_forward.items()}
    files[writing.file] = words
    for precision, step in decoder_steps(decoder).items():
        _, file = drawing.choose("", precision)
        files[file] = _export_step(step, drawing, fold=precision != FP32)
    files[drawing.rows] = rows_graph(drawing)
    return Graphs(files, {name: f"{name}.onnx" for name in feed_forward}, drawing, writing)


# ---- steps -----------------------------------------------------------------------------------


class GeneratorStep(nn.Module):
    """`Generator.step`."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, token: Tensor, context: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, h = self.generator.step(token, context, h)
        return log_probs, h


def decoder_steps(decoder: SketchDecoder) -> dict[str, DecoderStep]:
    """The step of the sketch decoder, sampling inside, by precision.

    Precisions for GPUs do the same work in every step, which can then be recorded as one graph.
    """
    return {
        FP32: DecoderStep(decoder),
        "int8": DecoderStep(decoder, Quantised(decoder, reach(decoder))),
        "fp16": DecoderStep(decoder, Half(decoder), dense=True),
    }


def decoder_graph(decoder: SketchDecoder) -> bundle.StepGraph:
    """What the graphs of all precisions take and give."""
    state = initial_state(decoder.preset, 1)
    initial = dict(zip((*Pen._fields, *State._fields[1:]), (*state.pen, *state[1:]), strict=True))
    inputs = (
        bundle.Tensor("noise", (2, STRIDE, NOISE)),
        bundle.Tensor("temperature", (1,)),
        bundle.Tensor("condition", (2, sum(widths(decoder)))),
        bundle.Tensor("forced", (STRIDE, ROW)),
        bundle.Tensor("force", (STRIDE,)),
        bundle.Tensor("last", (2,)),
        bundle.Tensor("begun", (1,)),
        bundle.Tensor("limit", (2,)),
    )
    outputs = (bundle.Tensor("points", (STRIDE, 3)), bundle.Tensor("made", (2,)))
    return bundle.StepGraph(
        file="decoder_step.onnx",
        inputs=inputs,
        outputs=outputs,
        state=tuple(_state(name, value) for name, value in initial.items()),
        noise=NOISE,
        precisions={name: f"decoder_step.{name}.onnx" for name in ("int8", "fp16")},
        best={"cpu": "int8", "cuda": "fp16"},
        dense=("fp16",),
        rows="decoder_rows.onnx",
        stride=STRIDE,
    )


def generator_step(generator: Generator) -> tuple[bytes, bundle.StepGraph]:
    """One word of the instruction generator; choosing the word is the caller's."""
    hidden, words = generator.preset.hidden, generator.words.num_embeddings
    graph = bundle.StepGraph(
        file="generator_step.onnx",
        inputs=(bundle.Tensor("token", (), "int64"), bundle.Tensor("context", (hidden,))),
        outputs=(bundle.Tensor("log_probs", (words,)),),
        state=(bundle.StateTensor("h", (hidden,), output="h_out"),),
        noise=0,
    )
    return _export_step(GeneratorStep(generator), graph), graph


def _state(name: str, value: Tensor) -> bundle.StateTensor:
    """A state tensor that starts as ``value`` (1, …)."""
    flat = value.flatten().tolist()
    initial = tuple(flat[:1] if len(set(flat)) == 1 else flat)
    return bundle.StateTensor(name, tuple(value.shape[1:]), output=f"{name}_out", initial=initial)


def _export_step(module: nn.Module, graph: bundle.StepGraph, *, fold: bool = False) -> bytes:
    inputs = {t.name: Input(_example(t), {0: "rows"}) for t in (*graph.inputs, *graph.state)}
    outputs = [t.name for t in graph.outputs] + [t.output for t in graph.state]
    return _export(module, inputs, {name: {0: "rows"} for name in outputs}, fold=fold)


def _example(tensor: bundle.Tensor) -> Tensor:
    if tensor.dtype == "int64":
        return torch.ones((ROWS, *tensor.shape), dtype=torch.int64)
    return torch.full((ROWS, *tensor.shape), 0.5)


# ---- feed-forward graphs -----------------------------------------------------------------------


class _Method(nn.Module):
    """A method of a network as a network of its own."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, *tensors: Tensor) -> Tensor:
        result: Tensor = getattr(self.network, self.method)(*tensors)
        return result


def _condition(decoder: SketchDecoder) -> bytes:
    inputs = _stack_inputs(decoder.subject.in_features)
    return _export(Condition(decoder), inputs, {"condition": {0: "rows"}})


def _generator_expand(generator: Generator) -> bytes:
    inputs = _stack_inputs(generator.words.embedding_dim)
    return _export(_Method(generator, "expand"), inputs, {"context": {0: "rows"}})


def generator_describe(generator: Generator) -> bytes:
    subject = Input(torch.rand(ROWS, generator.words.embedding_dim), {0: "spans"})
    inputs = {**_segment_inputs(), "subject": subject}
    return _export(_Method(generator, "describe"), inputs, {"context": {0: "spans"}})


def _scorer_segments(scorer: Scorer) -> bytes:
    outputs: dict[str, Axes] = {"embedding": {0: "spans"}}
    return _export(_Method(scorer, "segments"), _segment_inputs(), outputs)


def _scorer_unity(scorer: Scorer) -> bytes:
    outputs: dict[str, Axes] = {"log_odds": {0: "spans"}}
    return _export(_Method(scorer, "unity"), _segment_inputs(), outputs)


def _scorer_texts(scorer: Scorer) -> bytes:
    axes = {0: "rows", 1: "tokens"}
    inputs = {
        "tokens": Input(torch.rand(ROWS, TOKENS, scorer.text_encoder.conv.in_channels), axes),
        "mask": Input(torch.ones(ROWS, TOKENS), axes),
    }
    return _export(_Method(scorer, "texts"), inputs, {"embedding": {0: "rows"}})


def _classifier(classifier: Classifier) -> bytes:
    images = Input(torch.rand(ROWS, 1, classifier.size, classifier.size), {0: "rows"})
    return _export(classifier, {"images": images}, {"logits": {0: "rows"}})


def _stack_inputs(width: int) -> dict[str, Input]:
    axes = {0: "rows", 1: "levels", 2: "tokens"}
    return {
        "stack": Input(torch.rand(ROWS, LEVELS, TOKENS, width), axes),
        "stack_mask": Input(torch.ones(ROWS, LEVELS, TOKENS), axes),
        "subject": Input(torch.rand(ROWS, width), {0: "rows"}),
    }


def _segment_inputs() -> dict[str, Input]:
    return {
        "strokes": Input(torch.rand(STROKES, POINTS, FEATURES), {0: "strokes"}),
        "spans": Input(torch.tensor([[0, 2], [1, 5], [0, STROKES]]), {0: "spans"}),
    }


# ---- writing -----------------------------------------------------------------------------------


def _export(
    module: nn.Module, inputs: dict[str, Input], outputs: dict[str, Axes], *, fold: bool = False
) -> bytes:
    """Trace a network in evaluation mode; ``outputs`` are names with their free axes.

    Weights stay whole and under their names, and the runtime folds what is made of them, unless
    ``fold`` does it here.
    """
    target = io.BytesIO()
    with warnings.catch_warnings(), row_independent():
        # The tracing exporter is deprecated. It is kept, with torch pinned, because it writes the
        # small flat graphs that are wanted, and takes the symbolics of this package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(one.value for one in inputs.values()),
            target,  # type: ignore[arg-type]  # the tracing exporter writes to files as well
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: one.axes for name, one in inputs.items()} | outputs,
            # Evaluation mode would melt normalisations into weights, which are to be kept.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=fold,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(target.getvalue())
    _check(model, list(inputs))
    _declare(model, outputs, module(*(one.value for one in inputs.values())))
    model.ir_version = min(model.ir_version, IR_VERSION)
    data: bytes = model.SerializeToString()
    return data


def _declare(
    model: onnx.ModelProto, outputs: dict[str, Axes], values: Tensor | tuple[Tensor, ...]
) -> None:
    """Write the shapes of outputs, which tracing does not always know, into a graph."""
    shaped = (values,) if isinstance(values, Tensor) else values
    for output, axes, value in zip(model.graph.output, outputs.values(), shaped, strict=True):
        shape = output.type.tensor_type.shape
        del shape.dim[:]
        for axis, length in enumerate(value.shape):
            dim = shape.dim.add()
            if axis in axes:
                dim.dim_param = axes[axis]
            else:
                dim.dim_value = length


def _check(model: onnx.ModelProto, inputs: Sequence[str]) -> None:
    found = FORBIDDEN & {node.op_type for node in model.graph.node}
    if found:
        raise ExportError(f"the graph holds {', '.join(sorted(found))}; write the step out plainly")
    kept = {value.name for value in model.graph.input}
    if kept != set(inputs):
        raise ExportError(f"the graph lost the inputs {', '.join(sorted(set(inputs) - kept))}")
    onnx.checker.check_model(model)
