"""Exported graphs: names, shapes, no loops; functions that round alike in every row."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from bundles import tiny_checkpoints
from hitree_export import graphs, networks
from hitree_export.decoder_step import widths


@pytest.fixture(scope="module")
def nets():
    return networks.load(**vars(tiny_checkpoints()))


@pytest.fixture(scope="module")
def exported(nets):
    return graphs.export_all(nets.decoder, nets.generator, nets.scorer, nets.classifier)


def signature(model):
    def shapes(values):
        return {
            v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in values
        }

    return shapes(model.graph.input), shapes(model.graph.output)


def test_graphs_have_the_agreed_names_and_free_axes(exported, nets):
    E, P, H = nets.token_width, sum(widths(nets.decoder)), nets.generator.preset.hidden  # noqa: N806
    D, G = nets.scorer.preset.space, nets.classifier.size  # noqa: N806
    stack = {"stack": ["rows", "levels", "tokens", E], "stack_mask": ["rows", "levels", "tokens"],
             "subject": ["rows", E]}  # fmt: skip
    segments = {"strokes": ["strokes", 32, 4], "spans": ["spans", 2]}
    expected = {
        "condition": (stack, {"condition": ["rows", P]}),
        "scorer_segments": (segments, {"embedding": ["spans", D]}),
        "scorer_texts": (
            {"tokens": ["rows", "tokens", E], "mask": ["rows", "tokens"]},
            {"embedding": ["rows", D]},
        ),
        "scorer_unity": (segments, {"log_odds": ["spans"]}),
        "generator_describe": (segments | {"subject": ["spans", E]}, {"context": ["spans", H]}),
        "generator_expand": (stack, {"context": ["rows", H]}),
        "classifier": ({"images": ["rows", 1, G, G]}, {"logits": ["rows", 35]}),
    }
    assert set(exported.feed_forward) == set(expected)
    for name, (inputs, outputs) in expected.items():
        model = onnx.load_from_string(exported.files[exported.feed_forward[name]])
        assert signature(model) == (inputs, outputs), name


@pytest.mark.parametrize("which", ["decoder", "generator"])
def test_step_graphs_are_what_the_manifest_says(exported, which):
    step = getattr(exported, which)
    for file in (step.file, *step.precisions.values()):
        check_step(step, onnx.load_from_string(exported.files[file]))


def check_step(step, model):
    inputs, outputs = signature(model)
    assert inputs == {t.name: ["rows", *t.shape] for t in (*step.inputs, *step.state)}
    named = {t.name: t.shape for t in step.outputs} | {t.output: t.shape for t in step.state}
    assert outputs == {name: ["rows", *shape] for name, shape in named.items()}


def test_rows_of_the_state_can_be_moved(exported):
    step = exported.decoder
    inputs, outputs = signature(onnx.load_from_string(exported.files[step.rows]))
    old = {t.name: ["rows", *t.shape] for t in step.state}
    fresh = {f"{t.name}_fresh": ["fresh", *t.shape] for t in step.state}
    assert inputs == {"index": ["n"], **old, **fresh}
    assert outputs == {t.output: ["n", *t.shape] for t in step.state}


def test_precisions_called_dense_do_the_same_work_in_every_step(exported):
    step = exported.decoder
    assert step.dense
    for precision in ("fp32", *step.precisions):
        kinds = {n.op_type for n in onnx.load_from_string(exported.step(precision)).graph.node}
        assert ("NonZero" not in kinds) == (precision in step.dense), precision


def test_the_decoders_state_starts_in_the_centre_with_the_pen_up(exported):
    state = {t.name: t for t in exported.decoder.state}
    assert exported.decoder.noise == 5
    assert state["row"].initial == (0, 0, 0, 1, 0)
    assert state["position"].initial == (128,)
    assert state["canvas"].initial == state["h"].initial == (0,)
    assert [t.name for t in exported.decoder.outputs] == ["points", "made"]


def test_no_graph_loops(exported):
    for name, data in exported.files.items():
        model = onnx.load_from_string(data)
        found = {node.op_type for node in model.graph.node}
        assert not found & graphs.FORBIDDEN, name
        assert model.opset_import[0].version == 18
        assert model.ir_version <= 10


def test_a_network_with_a_recurrent_operator_is_refused():
    class Fused(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(3, 3)

        def forward(self, x):
            return self.gru(x)[0]

    with pytest.raises(graphs.ExportError, match="GRU"):
        graphs._export(Fused(), {"x": graphs.Input(torch.ones(2, 2, 3), {})}, {"y": {}})


def test_an_input_that_is_not_used_is_refused():
    class Deaf(torch.nn.Module):
        def forward(self, x, _y):
            return x + 1

    inputs = {name: graphs.Input(torch.ones(2), {}) for name in ("x", "y")}
    with pytest.raises(graphs.ExportError, match="y"):
        graphs._export(Deaf(), inputs, {"z": {}})


class Elementary(torch.nn.Module):
    def forward(self, u):
        angle = 2 * torch.pi * u
        return torch.cat([torch.log(u), torch.cos(angle), torch.sin(angle)], dim=-1)


def test_elementary_functions_are_exact_and_alike_in_every_row():
    inputs = {"u": graphs.Input(torch.rand(3, 1), {0: "rows"})}
    data = graphs._export(Elementary(), inputs, {"y": {0: "rows"}})
    kinds = {node.op_type for node in onnx.load_from_string(data).graph.node}
    assert not kinds & {"Log", "Cos", "Sin"}
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    u = np.linspace(1e-6, 1 - 1e-6, 1001, dtype=np.float32)[:, None]
    whole = session.run(None, {"u": u})[0]
    exact = np.concatenate([np.log(u), np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)], axis=1)
    np.testing.assert_allclose(whole, exact, atol=2e-6)
    for row in range(0, 1001, 7):
        assert session.run(None, {"u": u[row : row + 1]})[0].tobytes() == whole[row].tobytes()
