"""A job becomes what the engine is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from hitree.tree import Node, Plan, build
from hitree_server.calls import Call
from hitree_server.drawing import Job
from hitree_server.intake import DrawAsk, PlanAsk

ROOT = Node(0, None, "draw a cat")
LEAVES = [Node(1, 0, "draw a head"), Node(2, 0, "add two ears")]


def job(plan: Plan) -> Job:
    prompt = PlanAsk("draw a cat", 1, 0, 0, 0, False, 0.0)
    ask = DrawAsk(prompt, plan, None, None, 500, 1, 0, None)
    return Job(Call.of("embedded"), ask, plan, np.zeros((len(plan.leaves), 4), np.float32))


@pytest.mark.parametrize(
    ("nodes", "longest"), [([ROOT], 500), ([ROOT, *LEAVES], 40)], ids=["whole", "parts"]
)
def test_a_part_has_a_budget_and_a_whole_the_request_s(nodes: list[Node], longest: int) -> None:
    spec = job(Plan(build(nodes))).sequence(0, {"max_points_leaf": 40.0})
    assert (spec.max_points, spec.max_points_leaf) == (500, longest)
