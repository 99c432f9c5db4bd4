"""What hypothesis draws in many tests: drawings, plans, texts."""

import numpy as np
from hypothesis import strategies as st

from hitree.drawing import Drawing
from hitree.tree import Node, Plan, build


def _stroke(data: bytes) -> np.ndarray:
    """Points out of bytes, which are quick to draw and shrink well."""
    steps = np.frombuffer(data[: len(data) // 4 * 4], "<u2").reshape(-1, 2) % 1025
    return (steps / 4).astype(np.float32)


strokes = st.binary(min_size=4, max_size=48).map(_stroke)
drawings = st.lists(strokes, min_size=1, max_size=6).map(lambda found: Drawing(tuple(found)))
"""Drawings on the grid of a quarter of a unit, inside the frame; dots among the strokes."""

floats32 = st.floats(-1e6, 1e6, width=32)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Trees of up to 12 nodes in preorder, without spans."""
    nodes, path = [Node(0, None, draw(texts))], [0]
    for index in range(1, draw(st.integers(1, 12))):
        depth = draw(st.integers(1, len(path)))
        path = [*path[:depth], index]
        score = draw(st.none() | floats32)
        nodes.append(Node(index, path[-2], draw(texts), score=score))
    return Plan(build(nodes), draw(texts), draw(st.floats(0, 1, width=32)), draw(texts))


def same(one: Drawing, other: Drawing) -> bool:
    """Whether two drawings have the same strokes, point by point."""
    pairs = zip(one.strokes, other.strokes, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
