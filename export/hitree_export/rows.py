"""The graph that puts rows of state in another order, for state that stays on a device.

Between steps rows are begun anew, moved and put back; on a device all of that is one gather from
the rows that there are and fresh ones from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from hitree_export.symbolics import IR_VERSION, OPSET

if TYPE_CHECKING:
    from hitree.bundle import StateTensor, StepGraph


def rows_graph(graph: StepGraph) -> bytes:
    """For each tensor of the state: rows ``index`` (n,) of its rows followed by its fresh ones."""
    inputs = [helper.make_tensor_value_info("index", onnx.TensorProto.INT64, ["n"])]
    outputs, nodes = [], []
    for tensor in graph.state:
        name, fresh, both = tensor.name, f"{tensor.name}_fresh", f"{tensor.name}_both"
        inputs += [_value(name, tensor, "rows"), _value(fresh, tensor, "fresh")]
        outputs.append(_value(tensor.output, tensor, "n"))
        nodes += [
            helper.make_node("Concat", [name, fresh], [both], axis=0),
            helper.make_node("Gather", [both, "index"], [tensor.output], axis=0),
        ]
    model = helper.make_model(
        helper.make_graph(nodes, "rows", inputs, outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _value(name: str, tensor: StateTensor, rows: str) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(name, kind, [rows, *tensor.shape])
