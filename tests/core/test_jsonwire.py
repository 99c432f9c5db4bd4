import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitree import codec, errors, events
from hitree.codec import from_json, to_json
from hitree.drawing import Drawing
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb
from strategies import drawings, plans

LINE = [[1.0, 2.25], [3.0, 4.0]]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


def through_text(message):
    """A message written as JSON text and read again."""
    return from_json(json.loads(json.dumps(to_json(message), allow_nan=False)), type(message))


@given(drawings, st.none() | st.integers(0, 2**64 - 1), st.none() | st.floats(0, 2, width=32), TEXT)
def test_requests_round_trip(drawing, seed, temperature, prompt):
    request = pb.DrawRequest(
        prompt=prompt,
        canvas=codec.drawing_to_wire(drawing, "k"),
        seed=seed,
        temperature=temperature,
        priority=pb.PRIORITY_HIGH,
        resume=pb.Resume(strokes=codec.drawing_to_wire(drawing).strokes, nodes=[1, 2]),
    )
    assert through_text(request) == request


@given(plans())
def test_plans_round_trip(plan):
    request = pb.DrawRequest(plan=codec.plan_to_wire(plan))
    assert through_text(request) == request


@given(st.dictionaries(TEXT, TEXT, max_size=3), st.integers(0, 2**32 - 1))
def test_errors_round_trip(details, retry_after_ms):
    error = pb.Error(reason="X", message="m", retry_after_ms=retry_after_ms, details=details)
    assert through_text(error) == error


@pytest.mark.parametrize(
    "message",
    [
        pb.ModelInfoResponse(
            bundle="hitree",
            models=[pb.ModelEntry(name="decoder_step", file="d.onnx", sha256="0f")],
            engine=pb.EngineInfo(provider="CPU", buckets=[1, 2, 4]),
            metrics={"generator.bleu1": 0.1},
            limits={"candidates": 16},
        ),
        pb.ScoreResponse(scores=[0.1, -2]),
        pb.SessionRequest(user_stroke=pb.UserStroke(stroke=pb.Stroke(xs=[1], ys=[2]))),
        pb.SessionEvent(draw=pb.DrawEvent(index=1, stroke_finished=pb.StrokeFinished(stroke=2))),
        pb.AnnotateRequest(parser=pb.PARSER_BOTTOM_UP),
        pb.AnnotateRequest(),
    ],
)
def test_other_messages_round_trip(message):
    assert through_text(message) == message


def test_a_request_as_people_write_it():
    request = from_json(
        {"drawing": {"strokes": [LINE]}, "subject": "cat", "parser": "cky"}, pb.AnnotateRequest
    )
    assert codec.drawing_from_wire(request.drawing).strokes[0].tolist() == LINE
    assert request.parser == pb.PARSER_CKY


def test_a_whole_number_is_an_integer_however_it_is_written():
    assert from_json({"prompt": "a cat", "seed": 7.0}, pb.PlanRequest).seed == 7


def test_floats_are_written_as_short_as_they_were_meant():
    assert to_json(pb.Node(text="x", score=0.1)) == {
        "id": 0,
        "parent": None,
        "text": "x",
        "start": None,
        "end": None,
        "score": 0.1,
    }


PLAN = Plan(build([Node(0, None, "draw a cat")]), "cat", 0.5)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            events.Started("r", "cat", 7, "v"),
            {
                "request_id": "r",
                "subject": "cat",
                "seed": 7,
                "model_version": "v",
                "frame": 256,
                "replayed": False,
                "candidate": 0,
            },
        ),
        (events.PlanMade(PLAN), {"plan": to_json(codec.plan_to_wire(PLAN))}),
        (events.NodeStarted(1, "add ears"), {"node": 1, "text": "add ears"}),
        (
            events.Points(Drawing.of([LINE]).strokes[0], (16, 33), 2, 1),
            {"points": LINE, "t_ms": [16, 33], "stroke": 2, "node": 1},
        ),
        (events.StrokeFinished(0, 0), {"stroke": 0, "node": 0}),
        (events.NodeFinished(1, 0, 2), {"node": 1, "start": 0, "end": 2}),
        (
            events.Finished("max_points", 1, 2, events.Timings(1, 2, 3)),
            {
                "reason": "max_points",
                "strokes": 1,
                "points": 2,
                "timings": {"queued_ms": 1, "first_point_ms": 2, "total_ms": 3},
            },
        ),
        (
            events.Failed(errors.Overloaded("full", retry_after=2, details={"a": "b"})),
            {
                "error": {
                    "reason": "OVERLOADED",
                    "message": "full",
                    "retry_after_ms": 2000,
                    "details": {"a": "b"},
                }
            },
        ),
    ],
)
def test_events_are_flat_and_named_as_their_dataclasses(event, expected):
    message = codec.event_to_wire(event, 3)
    assert to_json(message) == {"index": 3, "kind": event.kind, **expected}
    assert through_text(message) == message


def test_an_event_without_a_known_kind_is_refused():
    with pytest.raises(errors.InvalidInput, match="newer"):
        to_json(pb.DrawEvent(index=1))
    with pytest.raises(errors.InvalidInput, match="expected one of started, plan"):
        from_json({"index": 1, "kind": "exploded"}, pb.DrawEvent)


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"promt": "x"}, "promt", "prompt"),
        ({"canvas": {"stroke": []}}, "canvas.stroke", "key_id, strokes"),
        ({"plan": {"nodes": [{}, {"txt": ""}]}}, "plan.nodes[1].txt", "text"),
        ({"plan_options": {"depth": 1}}, "plan_options.depth", "max_depth"),
        ({"seed": None, "xs": []}, "xs", "seed"),
    ],
)
def test_unknown_fields_are_named_with_the_allowed_ones(body, field, allowed):
    with pytest.raises(errors.UnknownField, match=r"there is no field") as caught:
        from_json(body, pb.DrawRequest)
    assert caught.value.details["field"] == field
    assert allowed in caught.value.details["allowed"]


def test_points_events_know_points_and_not_xs():
    body = {"kind": "points", "xs": [1]}
    with pytest.raises(errors.UnknownField) as caught:
        from_json(body, pb.DrawEvent)
    assert caught.value.details["allowed"] == "node, points, stroke, t_ms"


def test_replies_of_a_newer_server_can_be_read():
    body = {"model_version": "v", "newer": 1, "tree": {"subject": "cat", "mood": "calm"}}
    found = from_json(body, pb.AnnotateResponse, ignore_unknown=True)
    assert (found.model_version, found.tree.subject) == ("v", "cat")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e39, 10**400])
def test_numbers_that_are_not_finite(number):
    bodies = [
        {"temperature": number},
        {"pace": number},
        {"plan": {"confidence": number}},
        {"plan": {"nodes": [{"score": number}]}},
    ]
    for body in bodies:
        with pytest.raises(errors.NotFinite, match="finite"):
            from_json(body, pb.DrawRequest)


@pytest.mark.parametrize(
    ("strokes", "error"),
    [
        ([[[math.nan, 1], [1, 1]]], errors.NotFinite),
        ([[[1e39, 1], [1, 1]]], errors.NotFinite),
        ([[[1e30, 1], [1, 1]]], errors.OutOfFrame),
        ([[[10**400, 1], [1, 1]]], errors.InvalidDrawing),
        ([[]], errors.EmptyDrawing),
        ([[[1, 2, 3]]], errors.InvalidDrawing),
        ([[[1, 2], [3]]], errors.InvalidDrawing),
        ([[["1", "2"]]], errors.InvalidDrawing),
        (["abc"], errors.InvalidDrawing),
        ([{"xs": [1], "ys": [2]}], errors.InvalidDrawing),
        ([None], errors.InvalidDrawing),
        ([[[1, 2], None]], errors.InvalidDrawing),
        ([[[[1], [2]]]], errors.InvalidDrawing),
        ([[["x" * 1_000_000, 1]] + [[1, 1]] * 1_000_000], errors.InvalidDrawing),
    ],
)
def test_strokes_that_are_none(strokes, error):
    with pytest.raises(error, match=r"canvas\.strokes\[0\]") as caught:
        from_json({"canvas": {"strokes": strokes}}, pb.DrawRequest)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], errors.InvalidInput),
        (None, errors.InvalidInput),
        ("prompt", errors.InvalidInput),
        ({"prompt": 5}, errors.NotText),
        ({"prompt": ["a"]}, errors.NotText),
        ({"prompt": "\ud800"}, errors.NotText),
        ({"plan": []}, errors.InvalidInput),
        ({"plan": {"nodes": {}}}, errors.InvalidInput),
        ({"plan": {"nodes": None}}, errors.InvalidInput),
        ({"plan": {"nodes": [5]}}, errors.InvalidInput),
        ({"plan": {"prompt": None}}, errors.NotText),
        ({"canvas": {"strokes": 5}}, errors.InvalidInput),
        ({"seed": -1}, errors.InvalidInput),
        ({"seed": 2**64}, errors.InvalidInput),
        ({"seed": 1.5}, errors.InvalidInput),
        ({"seed": 2.0**64}, errors.InvalidInput),
        ({"seed": float("inf")}, errors.InvalidInput),
        ({"canvas": {"strokes": [[[True, 0], [1, 1]]]}}, errors.InvalidDrawing),
        ({"seed": "7"}, errors.InvalidInput),
        ({"seed": True}, errors.InvalidInput),
        ({"max_points": 2**32}, errors.InvalidInput),
        ({"max_points": None}, errors.InvalidInput),
        ({"temperature": "hot"}, errors.InvalidInput),
        ({"temperature": True}, errors.InvalidInput),
        ({"resume": {"last_stroke_finished": 1}}, errors.InvalidInput),
        ({"resume": {"nodes": [True]}}, errors.InvalidInput),
        ({"priority": "urgent"}, errors.InvalidInput),
        ({"priority": 1}, errors.InvalidInput),
        ({"priority": []}, errors.InvalidInput),
        ({"prompt": "a", "plan": {}}, errors.InvalidInput),
    ],
)
def test_wrong_types_are_refused(body, error):
    with pytest.raises(error) as caught:
        from_json(body, pb.DrawRequest)
    assert type(caught.value) is error


def test_a_long_list_is_not_quoted():
    with pytest.raises(errors.InvalidInput, match="priority is of type list; send one of"):
        from_json({"priority": [{}] * 1000}, pb.DrawRequest)


@pytest.mark.parametrize("details", [[], {"a": 1}, {1: "a"}])
def test_wrong_maps_are_refused(details):
    with pytest.raises(errors.InvalidInput):
        from_json({"details": details}, pb.Error)


def test_null_leaves_unset_what_can_be_unset():
    found = from_json({"plan": None, "canvas": None, "seed": None, "prompt": "x"}, pb.DrawRequest)
    assert found == pb.DrawRequest(prompt="x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "plan", "canvas", "strokes", "nodes", "seed", "kind", "id"]),
            inner,
            max_size=4,
        )
    ),
)


@settings(max_examples=20)
@given(JSON)
def test_any_json_gives_a_message_or_one_of_our_errors(body):
    for message_class in (pb.DrawRequest, pb.DrawEvent, pb.SessionRequest):
        try:
            assert isinstance(from_json(body, message_class), message_class)
        except errors.InvalidInput as exc:
            assert exc.message  # noqa: PT017  # either outcome is fine, no other exception is
