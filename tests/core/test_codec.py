import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitree import codec, errors, events
from hitree.drawing import Drawing
from hitree.errors import BY_REASON
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb
from strategies import drawings, plans, same

PLAN = Plan(build([Node(0, None, "draw a cat", 0, 1, -0.5)]), "sea turtle", 0.75, "a cat")
EVENTS = [
    events.Started("r-1", "sea turtle", 2**64 - 1, "0.1.0"),
    events.Started("r-1", "cat", 0, "0.1.0", replayed=True, candidate=3),
    events.PlanMade(PLAN),
    events.NodeStarted(0, ""),
    events.NodeStarted(2, "add two ears"),
    events.StrokeFinished(0, 0),
    events.NodeFinished(4, 2, 5),
    events.Finished("complete", 3, 40, events.Timings(0.5, 1.25, 20.0)),
    events.Finished("max_points", 3, 40, events.Timings(0, 0, 0)),
]


@given(drawings, st.text(st.characters(exclude_categories=["Cs"])))
def test_drawings_on_the_grid_round_trip(drawing, key_id):
    message = codec.drawing_to_wire(drawing, key_id)
    assert message.key_id == key_id
    found = codec.drawing_from_wire(pb.Drawing.FromString(message.SerializeToString()))
    assert same(found, drawing)


def test_positions_are_rounded_to_quarters():
    message = codec.drawing_to_wire(Drawing.of([[[0.3, -1.1], [255.9, 256]]]))
    assert (list(message.strokes[0].xs), list(message.strokes[0].ys)) == ([1, 1024], [-4, 1024])


@pytest.mark.parametrize(
    ("value", "error"), [(np.nan, errors.NotFinite), (1e30, errors.OutOfFrame)]
)
def test_drawings_that_do_not_fit_the_wire(value, error):
    with pytest.raises(error):
        codec.drawing_to_wire(Drawing.of([[[0, value], [1, 1]]]))


def test_unequal_xs_and_ys_are_refused():
    message = pb.Drawing(strokes=[pb.Stroke(xs=[1], ys=[1]), pb.Stroke(xs=[1, 2], ys=[1])])
    with pytest.raises(errors.InvalidDrawing, match=r"stroke 1 has 2 xs and 1 ys"):
        codec.drawing_from_wire(message)


def test_empty_strokes_are_refused_and_empty_drawings_left_to_check():
    with pytest.raises(errors.EmptyDrawing, match="stroke 0"):
        codec.drawing_from_wire(pb.Drawing(strokes=[pb.Stroke()]))
    assert codec.drawing_from_wire(pb.Drawing()).strokes == ()


@given(plans())
def test_plans_round_trip(plan):
    message = codec.plan_to_wire(plan)
    assert codec.plan_from_wire(pb.Plan.FromString(message.SerializeToString())) == plan


def test_the_root_has_no_parent_and_undrawn_nodes_no_span_on_the_wire():
    (node,) = codec.plan_to_wire(Plan(build([Node(0, None, "x")]))).nodes
    assert not any(node.HasField(name) for name in ("parent", "start", "end", "score"))


@pytest.mark.parametrize(
    "message",
    [
        pb.Plan(),
        pb.Plan(nodes=[pb.Node(id=1)]),
        pb.Plan(nodes=[pb.Node(id=0), pb.Node(id=1, parent=1)]),
        pb.Plan(nodes=[pb.Node(id=0, score=float("nan"))]),
        pb.Plan(nodes=[pb.Node(id=0)], confidence=float("inf")),
    ],
)
def test_plans_that_are_no_tree_are_refused(message):
    with pytest.raises(errors.InvalidPlan):
        codec.plan_from_wire(message)


@pytest.mark.parametrize("event", EVENTS)
def test_events_round_trip(event):
    message = pb.DrawEvent.FromString(codec.event_to_wire(event, 7).SerializeToString())
    assert message.index == 7
    assert message.WhichOneof("event") == event.kind
    assert codec.event_from_wire(message) == event


def test_points_round_trip():
    event = events.Points(np.array([[0.25, 1], [2, 3]], np.float32), (16, 32), 4, 2)
    found = codec.event_from_wire(codec.event_to_wire(event, 0))
    assert isinstance(found, events.Points)
    assert found.points.tolist() == event.points.tolist()
    assert (found.t_ms, found.stroke, found.node) == ((16, 32), 4, 2)


PLAINLY = [
    (events.NodeStarted(0, ""), pb.DrawEvent(node_started=pb.NodeStarted())),
    (
        events.NodeStarted(2, "add two ears"),
        pb.DrawEvent(node_started=pb.NodeStarted(node=2, text="add two ears")),
    ),
    (events.StrokeFinished(0, 0), pb.DrawEvent(stroke_finished=pb.StrokeFinished())),
    (
        events.StrokeFinished(3, 2),
        pb.DrawEvent(stroke_finished=pb.StrokeFinished(stroke=3, node=2)),
    ),
    (
        events.NodeFinished(4, 2, 5),
        pb.DrawEvent(node_finished=pb.NodeFinished(node=4, start=2, end=5)),
    ),
    (
        events.Started("r-1", "cat", 2**64 - 1, "0.1.0", replayed=True, candidate=3),
        pb.DrawEvent(
            started=pb.Started(
                request_id="r-1",
                subject="cat",
                seed=2**64 - 1,
                model_version="0.1.0",
                frame=256,
                replayed=True,
                candidate=3,
            )
        ),
    ),
    (
        events.PlanMade(PLAN),
        pb.DrawEvent(
            plan=pb.Plan(
                prompt="a cat",
                subject="sea turtle",
                confidence=0.75,
                nodes=[pb.Node(id=0, text="draw a cat", start=0, end=1, score=-0.5)],
            )
        ),
    ),
    (
        events.Points(np.array([[0, -0.25], [1.5, 300]], np.float32), (0, 16), 4, 2),
        pb.DrawEvent(points=pb.Points(xs=[0, 6], ys=[-1, 1200], t_ms=[0, 16], stroke=4, node=2)),
    ),
    (
        events.Finished("max_points", 3, 40, events.Timings(0.5, 1.25, 20.0)),
        pb.DrawEvent(
            finished=pb.Finished(
                reason=pb.FINISH_REASON_MAX_POINTS,
                strokes=3,
                points=40,
                timings=pb.Timings(queued_ms=0.5, first_point_ms=1.25, total_ms=20.0),
            )
        ),
    ),
    (
        events.Failed(errors.Overloaded("full", details={"a": "b"}, retry_after=0.5)),
        pb.DrawEvent(
            error=pb.Error(
                reason="OVERLOADED", message="full", retry_after_ms=500, details={"a": "b"}
            )
        ),
    ),
]


@pytest.mark.parametrize(("event", "plain"), PLAINLY)
def test_events_are_the_bytes_of_the_plain_messages(event, plain):
    for index in (0, 7):
        plain.index = index
        assert codec.event_to_wire(event, index).SerializeToString() == plain.SerializeToString()


def test_events_that_come_together_are_one_message():
    group = codec.group_to_wire([event for event, _ in PLAINLY], 5)
    for index, (_, plain) in enumerate(PLAINLY, 5):
        plain.index = index
    plainly = pb.DrawEvent(index=5, group=pb.EventGroup(events=[plain for _, plain in PLAINLY]))
    assert group.SerializeToString() == plainly.SerializeToString()
    assert list(codec.ungrouped(group)) == list(plainly.group.events)


def test_an_event_alone_is_no_group():
    event, _ = PLAINLY[0]
    assert codec.group_to_wire([event], 3) == codec.event_to_wire(event, 3)
    assert list(codec.ungrouped(codec.event_to_wire(event, 3))) == [codec.event_to_wire(event, 3)]


@pytest.mark.parametrize(
    "points",
    [
        pb.Points(xs=[1], ys=[1, 2], t_ms=[1]),
        pb.Points(xs=[1, 2], ys=[1, 2], t_ms=[1]),
        pb.Points(),
    ],
)
def test_points_of_unequal_length_are_refused(points):
    with pytest.raises(errors.InvalidDrawing, match="event 3"):
        codec.event_from_wire(pb.DrawEvent(index=3, points=points))


def test_events_of_a_newer_kind_are_an_error_that_says_so():
    with pytest.raises(errors.InternalError, match="newer"):
        codec.event_from_wire(pb.DrawEvent(index=3))
    with pytest.raises(errors.InternalError, match="reason 9"):
        codec.event_from_wire(pb.DrawEvent(finished=pb.Finished(reason=9)))


@pytest.mark.parametrize("cls", BY_REASON.values())
@pytest.mark.parametrize("retry_after", [None, 0.25])
def test_errors_round_trip_alone_and_in_a_stream(cls, retry_after):
    error = cls("what happened", details={"nearest": "cat, lion"}, retry_after=retry_after)
    wired = codec.event_from_wire(codec.event_to_wire(events.Failed(error), 1))
    assert isinstance(wired, events.Failed)
    for found in (codec.error_from_wire(codec.error_to_wire(error)), wired.error):
        assert type(found) is cls
        assert found.message == "what happened"
        assert (found.details, found.retry_after) == (error.details, retry_after)


def test_retry_hints_are_rounded_up():
    assert codec.error_to_wire(errors.Overloaded("x", retry_after=0.0001)).retry_after_ms == 1
