"""Elementary functions that round alike wherever a row lies in its batch.

ONNX Runtime's CPU kernels of Log, Cos and Sin work on packets of elements and finish with single
ones, which another routine computes to other last bits: a row's value then depends on how many
rows precede it. Products, sums, and kernels that reduce row by row do not. So the logarithm is
exported as a reduction over one element, and sine and cosine as polynomials on [-pi, pi].
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.onnx import utils as onnx_utils

if TYPE_CHECKING:
    from collections.abc import Iterator

OPSET = 18
IR_VERSION = 10  # what ONNX Runtime 1.20 still reads
DEGREE = 8  # in the square of the angle: an error below 3e-7, a few last bits of a float32

_CUSTOM = ("aten::log", "aten::cos", "aten::sin")


@contextmanager
def row_independent() -> Iterator[None]:
    """Export log, cos and sin inside the block as said above; angles must lie in [0, 2 pi]."""
    for name, symbolic in zip(_CUSTOM, (_log, _cos, _sin), strict=True):
        onnx_utils.register_custom_op_symbolic(name, symbolic, OPSET)
    try:
        yield
    finally:
        for name in _CUSTOM:
            onnx_utils.unregister_custom_op_symbolic(name, OPSET)


def coefficients(square_root_of: str) -> list[float]:
    """Coefficients in s, lowest first, of cos(sqrt(s)) or sin(sqrt(s)) / sqrt(s), s <= pi^2."""
    functions = {
        "cos": lambda s: np.cos(np.sqrt(s)),
        "sin": lambda s: np.sinc(np.sqrt(s) / math.pi),
    }
    series = np.polynomial.Chebyshev.interpolate(
        functions[square_root_of], DEGREE, domain=[0, math.pi**2]
    )
    found: list[float] = series.convert(kind=np.polynomial.Polynomial).coef.tolist()
    return found


# The graph context and its values have no public types.
def _log(g: Any, x: Any) -> Any:
    axes = g.op("Constant", value_t=torch.tensor([-1]))
    column = g.op("Unsqueeze", x, axes)
    return g.op("ReduceLogSum", column, axes, keepdims_i=0)


def _cos(g: Any, x: Any) -> Any:
    t = g.op("Sub", x, _constant(g, math.pi))  # cos(x) = -cos(x - pi)
    return g.op("Neg", _polynomial(g, g.op("Mul", t, t), coefficients("cos")))


def _sin(g: Any, x: Any) -> Any:
    t = g.op("Sub", x, _constant(g, math.pi))
    ratio = _polynomial(g, g.op("Mul", t, t), coefficients("sin"))
    return g.op("Neg", g.op("Mul", t, ratio))


def _polynomial(g: Any, s: Any, terms: list[float]) -> Any:
    """Horner's rule."""
    value = _constant(g, terms[-1])
    for term in reversed(terms[:-1]):
        value = g.op("Add", g.op("Mul", value, s), _constant(g, term))
    return value


def _constant(g: Any, value: float) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=torch.float32))
