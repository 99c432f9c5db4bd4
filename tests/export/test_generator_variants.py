"""Every variant of the generator exports to the same graph, which says what the network says."""

from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from hitree_export import graphs
from hitree_training.models.generator import Generator, GeneratorPreset, Variant

TOKENS, SUBJECTS = 12, 3


@pytest.mark.parametrize("variant", get_args(Variant))
def test_a_variant_describes_alike_as_a_graph(variant):
    torch.manual_seed(0)
    preset = GeneratorPreset(variant=variant, width=16, hidden=20, dropout=0.5, layers=2)
    model = Generator(preset, token_width=TOKENS, vocabulary=30, subjects=SUBJECTS).eval()
    subjects = functional.normalize(torch.randn(SUBJECTS, TOKENS), dim=-1)
    if model.memory:
        model.memory.subjects.copy_(subjects)
    data = graphs.generator_describe(model)
    strokes, spans = 2 * torch.rand(9, 32, 4) - 1, torch.tensor([[0, 3], [2, 9], [0, 9]])
    found = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(
        None, {"strokes": strokes.numpy(), "spans": spans.numpy(), "subject": subjects.numpy()}
    )[0]
    wanted = model.describe(strokes, spans, subjects).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
