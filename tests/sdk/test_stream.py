"""Streams of both twins: whole, left early, broken, bare, tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from hitree import codec, events
from hitree.errors import Cancelled, InternalError, Overloaded, Unavailable
from hitree.v1 import hitree_pb2 as pb
from sdk.fakes import PLAN, STROKES, Script, drawing_events, wired

if TYPE_CHECKING:
    from hitree_sdk import Sketch
    from sdk.fakes import AsyncTwin, SyncTwin

    Twin = SyncTwin | AsyncTwin

SPANS = [(0, 3), (0, 2), (2, 3)]


def assert_whole(sketch: Sketch) -> None:
    assert len(sketch.strokes) == len(STROKES)
    for got, drawn in zip(sketch.strokes, STROKES, strict=True):
        np.testing.assert_array_equal(got, drawn)
    assert [(node.start, node.end) for node in sketch.plan.nodes] == SPANS
    assert (sketch.seed, sketch.subject) == (7, "flamingo")


async def test_the_result_is_there_after_the_block(twin: Twin) -> None:
    script = Script([wired(drawing_events())])
    stream = twin.client(script).draw(PLAN, seed=7)
    seen = await twin.events(stream)
    assert [event.kind for event in seen] == [event.kind for event in drawing_events()]
    assert_whole(await twin.call(stream, "result"))
    assert_whole(await twin.call(stream, "result"))
    assert script.cancelled == 0


async def test_the_result_alone_consumes_the_stream(twin: Twin) -> None:
    stream = twin.client(Script([wired(drawing_events())])).draw("draw a flamingo")
    assert_whole(await twin.call(stream, "result"))


async def test_leaving_at_the_last_event_is_no_cancellation(twin: Twin) -> None:
    script = Script([wired(drawing_events())])
    stream = twin.client(script).draw("draw a flamingo")
    await twin.events(stream, leave_after=len(drawing_events()))
    assert_whole(await twin.call(stream, "result"))
    assert script.cancelled == 0


async def test_an_error_after_the_finished_event_spoils_nothing(twin: Twin) -> None:
    script = Script([[*wired(drawing_events()), Unavailable("going away")]])
    assert_whole(await twin.call(twin.client(script).draw("draw a flamingo"), "result"))


async def test_leaving_early_cancels_and_keeps_what_was_drawn(twin: Twin) -> None:
    script = Script([wired(drawing_events())])
    stream = twin.client(script).draw("draw a flamingo")
    seen = await twin.events(stream, leave_after=7)
    assert isinstance(seen[-1], events.Points)
    assert script.cancelled == 1
    with pytest.raises(Cancelled) as raised:
        await twin.call(stream, "result")
    partial = raised.value.partial
    np.testing.assert_array_equal(partial.strokes[0], STROKES[0])
    assert len(partial.strokes) == 2
    assert partial.plan.root.start is None


async def test_a_stream_that_was_never_begun_is_cancelled(twin: Twin) -> None:
    script = Script([wired(drawing_events())])
    stream = twin.client(script).draw("draw a flamingo")
    await twin.call(stream, "close")
    with pytest.raises(Cancelled):
        await twin.call(stream, "result")
    assert script.calls == []


async def test_an_error_event_is_raised_each_time(twin: Twin) -> None:
    failed = events.Failed(InternalError("the model broke", details={"step": "9"}))
    script = Script([wired([*drawing_events()[:5], failed])])
    stream = twin.client(script).draw("draw a flamingo")
    for _ in range(2):
        with pytest.raises(InternalError, match="the model broke") as raised:
            await twin.call(stream, "result")
        assert raised.value.details == {"step": "9"}


async def test_the_services_own_cancellation_has_the_partial_sketch(twin: Twin) -> None:
    failed = events.Failed(Cancelled("the server stops"))
    stream = twin.client(Script([wired([*drawing_events()[:5], failed])])).draw("draw a flamingo")
    with pytest.raises(Cancelled, match="the server stops") as raised:
        await twin.events(stream)
    assert len(raised.value.partial.strokes) == 1


async def test_a_bare_end_is_an_error(twin: Twin) -> None:
    script = Script([wired(drawing_events()[:-1])])
    stream = twin.client(script, retries=0).draw("draw a flamingo")
    with pytest.raises(Unavailable, match="ended before"):
        await twin.call(stream, "result")


async def test_a_busy_service_is_asked_again_before_the_first_event(
    twin: Twin, naps: list[float]
) -> None:
    refused = events.Failed(Overloaded("full", retry_after=0.5))
    script = Script([Unavailable("starting"), wired([refused]), wired(drawing_events())])
    assert_whole(await twin.call(twin.client(script).draw("draw a flamingo"), "result"))
    assert len(script.calls) == 3
    assert naps[1] == 0.5


BROKEN_AT = [
    # events before it breaks, points held, of strokes, the last one finished
    (1, [], False),
    (2, [], False),
    (3, [], False),
    (4, [2], False),
    (5, [3], False),
    (6, [3], True),
    (7, [3, 2], False),
    (8, [3, 2], True),
    (9, [3, 2], True),
    (10, [3, 2], True),
    (11, [3, 2, 1], False),
    (12, [3, 2, 1], True),
    (13, [3, 2, 1], True),
]


def resumed(whole: list[events.DrawEvent], before: int) -> list[events.DrawEvent]:
    """What a service tells a reader of ``before`` events: the node of the last point once more."""
    drawn = (events.Points, events.StrokeFinished)
    after = max([2, *(at for at, e in enumerate(whole[:before], 1) if isinstance(e, drawn))])
    begun = [event for event in whole[:after] if isinstance(event, events.NodeStarted)]
    return [*whole[:2], *begun[-1:], *whole[after:]]


@pytest.mark.parametrize(("before", "held", "finished"), BROKEN_AT)
async def test_a_stream_that_broke_is_taken_up_where_it_stopped(
    twin: Twin, naps: list[float], before: int, held: list[int], finished: bool
) -> None:
    whole = drawing_events()
    rest = wired(resumed(whole, before))
    script = Script([[*wired(whole[:before]), Unavailable("gone")], rest])
    stream = twin.client(script, bundle="birds").draw("draw a flamingo", temperature=0.5)
    assert wired(await twin.events(stream)) == wired(whole)
    assert_whole(await twin.call(stream, "result"))
    assert len(script.calls) == 2
    assert len(naps) == 1

    asked = script.calls[1][1]
    assert asked.seed == 7
    assert asked.bundle == pb.BundleChoice(name="birds", version="1.0")
    assert asked.temperature == 0.5
    assert asked.WhichOneof("what") == ("plan" if before > 1 else "prompt")
    assert [len(stroke.xs) for stroke in asked.resume.strokes] == held
    assert list(asked.resume.nodes) == [1, 1, 2][: len(held)]
    assert asked.resume.last_stroke_finished is finished


async def test_the_canvas_comes_first_in_the_sketch(twin: Twin) -> None:
    canvas = [np.array([[1.1, 2], [3, 4]])]
    made = [
        events.Started("r", "flamingo", 7, "1.0"),
        events.PlanMade(PLAN),
        events.Points(STROKES[0], (1, 2, 3), 1, 1),
        events.NodeFinished(1, 1, 2),
        events.NodeFinished(2, 2, 2),
        events.Finished("complete", 2, 3, events.Timings(1, 2, 3)),
    ]
    script = Script([wired(made)])
    stream = twin.client(script).draw("draw a flamingo", canvas=canvas)
    sketch = await twin.call(stream, "result")
    np.testing.assert_array_equal(sketch.strokes[0], [[1, 2], [3, 4]])  # on the wire's grid
    np.testing.assert_array_equal(sketch.strokes[1], STROKES[0])
    assert (sketch.plan.root.start, sketch.plan.root.end) == (1, 2)
    assert len(codec.drawing_from_wire(script.calls[0][1].canvas).strokes) == 1


async def test_the_whole_call_shares_one_deadline(twin: Twin) -> None:
    script = Script([wired(drawing_events())])
    await twin.call(twin.client(script).draw("draw a flamingo", timeout=3), "result")
    assert 2.5 < script.calls[0][2] <= 3
