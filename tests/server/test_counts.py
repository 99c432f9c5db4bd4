"""Limits told by counting: the same for messages and for their JSON, and before both are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hitree.codec import from_json
from hitree.errors import InvalidInput, InvalidPlan, TooManyPoints, TooManyStrokes
from hitree.limits import LIMITS
from hitree.v1 import hitree_pb2 as pb
from hitree_server.counts import check_json, check_message

if TYPE_CHECKING:
    from google.protobuf.message import Message

DOT = [[1, 1]]


def drawing(strokes: int, points: int = 1) -> dict[str, Any]:
    return {"strokes": [DOT * points] * strokes}


ALLOWED = [
    (pb.AnnotateRequest, {"drawing": drawing(LIMITS.drawing_strokes)}),
    (pb.DescribeRequest, {"drawing": drawing(2, LIMITS.drawing_points // 2)}),
    (pb.DrawRequest, {"canvas": drawing(LIMITS.canvas_strokes)}),
    (pb.DrawRequest, {"canvas": drawing(1, LIMITS.canvas_points)}),
    (pb.DrawRequest, {"plan": {"nodes": [{}] * LIMITS.plan_nodes}}),
    (pb.DrawRequest, {"resume": drawing(LIMITS.max_points) | {"nodes": [0] * LIMITS.max_points}}),
    (pb.ScoreRequest, {"items": [{}] * LIMITS.plan_nodes}),
    (pb.SubjectsRequest, {}),
]
REFUSED = [
    (pb.AnnotateRequest, {"drawing": drawing(LIMITS.drawing_strokes + 1)}, TooManyStrokes),
    (pb.DescribeRequest, {"drawing": drawing(3, LIMITS.drawing_points // 2)}, TooManyPoints),
    (pb.ScoreRequest, {"drawing": drawing(LIMITS.drawing_strokes + 1)}, TooManyStrokes),
    (pb.PlanRequest, {"canvas": drawing(LIMITS.canvas_strokes + 1)}, TooManyStrokes),
    (pb.DrawRequest, {"canvas": drawing(1, LIMITS.canvas_points + 1)}, TooManyPoints),
    (pb.DrawRequest, {"plan": {"nodes": [{}] * (LIMITS.plan_nodes + 1)}}, InvalidPlan),
    (pb.DrawRequest, {"resume": drawing(LIMITS.max_points + 1)}, TooManyStrokes),
    (pb.DrawRequest, {"resume": drawing(2, LIMITS.max_points)}, TooManyPoints),
    (pb.DrawRequest, {"resume": {"nodes": [0] * (LIMITS.max_points + 1)}}, InvalidInput),
    (pb.ScoreRequest, {"items": [{}] * (LIMITS.plan_nodes + 1)}, InvalidInput),
]


@pytest.mark.parametrize(("kind", "body"), ALLOWED)
def test_what_is_at_a_limit_passes(kind: type[Message], body: dict[str, Any]) -> None:
    check_json(body, kind)
    check_message(from_json(body, kind))


@pytest.mark.parametrize(("kind", "body", "error"), REFUSED)
def test_what_is_beyond_a_limit_is_refused_alike(
    kind: type[Message], body: dict[str, Any], error: type[InvalidInput]
) -> None:
    with pytest.raises(error) as of_json:
        check_json(body, kind)
    with pytest.raises(error) as of_message:
        check_message(from_json(body, kind))
    assert type(of_json.value) is type(of_message.value) is error
    assert of_json.value.message == of_message.value.message


def test_ys_without_xs_count() -> None:
    stroke = pb.Stroke(ys=[0] * (LIMITS.drawing_points + 1))
    with pytest.raises(TooManyPoints):
        check_message(pb.AnnotateRequest(drawing=pb.Drawing(strokes=[stroke])))


@pytest.mark.parametrize(
    "body",
    [
        [], None, "items", 5, {"items": {}}, {"items": "x" * 100}, {"drawing": []},
        {"drawing": {"strokes": None}}, {"drawing": {"strokes": [5, "abc", None, {}]}},
        {"canvas": drawing(1000)},
    ],
)  # fmt: skip
def test_what_is_of_another_type_is_left_to_the_reading(body: object) -> None:
    check_json(body, pb.ScoreRequest)
    with pytest.raises(InvalidInput):
        from_json(body, pb.ScoreRequest)
