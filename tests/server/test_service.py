"""The service without a door."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hitree import events
from hitree.codec import drawing_to_wire, event_from_wire, plan_from_wire, plan_to_wire, ungrouped
from hitree.drawing import Drawing
from hitree.errors import (
    DeadlineExceeded,
    EmptyPrompt,
    InvalidInput,
    Overloaded,
    TooManyStrokes,
    Unavailable,
    Unimplemented,
    UnknownBundle,
    UnknownSubject,
)
from hitree.limits import LIMITS
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb
from hitree_server import intake
from hitree_server.calls import Call
from hitree_server.metrics import Metrics
from hitree_server.service import Service
from server.conftest import LEAF

if TYPE_CHECKING:
    from hitree_server.settings import Settings
    from server.conftest import Fakes

CALL = Call.of("embedded")
SUBJECTS = ("cat", "flamingo", "sea turtle")
SQUARE = Drawing.of([[[50, 50], [100, 50]], [[100, 50], [100, 100]], [[60, 60], [70, 70]]])


async def drawn(service: Service, request: pb.DrawRequest, call: Call = CALL) -> list[Any]:
    return [
        event_from_wire(e) async for group in service.draw(request, call) for e in ungrouped(group)
    ]


def strokes_of(told: list[Any]) -> dict[int, list[list[float]]]:
    found: dict[int, list[list[float]]] = {}
    for event in told:
        if isinstance(event, events.Points):
            found.setdefault(event.stroke, []).extend(event.points.tolist())
    return found


async def test_plan_is_a_function_of_prompt_and_seed(service: Service) -> None:
    reply = await service.plan(pb.PlanRequest(prompt="draw a flamingo", seed=3), CALL)
    plan = plan_from_wire(reply.plan)
    assert (plan.subject, plan.confidence, len(plan.leaves)) == ("flamingo", 1.0, 3)
    assert reply.model_version == "0.0.0+fake"
    again = await service.plan(pb.PlanRequest(prompt="draw a flamingo", seed=3), CALL)
    assert again == reply


async def test_drawing_is_told_from_started_to_finished(service: Service) -> None:
    request = pb.DrawRequest(prompt="draw a cat", seed=1)
    wire = [event async for group in service.draw(request, CALL) for event in ungrouped(group)]
    assert [event.index for event in wire] == list(range(len(wire)))
    told = [event_from_wire(event) for event in wire]
    kinds = [event.kind for event in told]
    assert kinds[:3] == ["started", "plan", "node_started"]
    assert kinds[-2:] == ["node_finished", "finished"]
    started, plan, last = told[0], told[1].plan, told[-1]
    assert (started.seed, started.subject, started.request_id) == (1, "cat", CALL.request_id)
    assert [e.node for e in told if e.kind == "node_started"] == [leaf.id for leaf in plan.leaves]
    assert (last.reason, last.points, last.strokes) == ("complete", 30, 6)
    assert sum(len(e.points) for e in told if e.kind == "points") == last.points


async def test_the_same_seed_draws_the_same_and_another_another(service: Service) -> None:
    first, same, other = [
        strokes_of(await drawn(service, pb.DrawRequest(prompt="draw a cat", seed=seed)))
        for seed in (1, 1, 2)
    ]
    assert first == same
    assert first != other


async def test_seed_is_chosen_and_told_where_none_is_given(service: Service) -> None:
    told = await drawn(service, pb.DrawRequest(prompt="draw a cat"))
    again = await drawn(service, pb.DrawRequest(prompt="draw a cat", seed=told[0].seed))
    assert strokes_of(again) == strokes_of(told)
    assert told[0].seed < 2**53


async def test_given_plan_is_drawn_without_its_old_spans(service: Service) -> None:
    nodes = [Node(0, None, "draw a cat", 0, 2), Node(1, 0, "add a head", 0, 2)]
    plan = Plan(build(nodes), subject="cat")
    told = await drawn(service, pb.DrawRequest(plan=plan_to_wire(plan), seed=1))
    assert [(node.text, node.start) for node in told[1].plan.nodes] == [
        ("draw a cat", None),
        ("add a head", None),
    ]
    assert [(e.node, e.start, e.end) for e in told if e.kind == "node_finished"] == [(1, 0, 2)]


async def test_subject_of_a_given_plan_is_recognised_from_its_root(service: Service) -> None:
    plan = Plan(build([Node(0, None, "draw a flamingo")]))
    told = await drawn(service, pb.DrawRequest(plan=plan_to_wire(plan)))
    assert told[0].subject == told[1].plan.subject == "flamingo"
    unknown = Plan(build([Node(0, None, "draw a car")]))
    with pytest.raises(UnknownSubject):
        await drawn(service, pb.DrawRequest(plan=plan_to_wire(unknown)))


async def test_canvas_is_continued(service: Service) -> None:
    # As many points as a leaf of the fake decoder, which counts them all.
    canvas = Drawing.of([[[50, 50 + y] for y in range(LEAF // 2)]] * 2)
    request = pb.DrawRequest(prompt="draw a cat", seed=1, canvas=drawing_to_wire(canvas))
    told = await drawn(service, request)
    assert min(strokes_of(told)) == 2
    assert told[-1].strokes == 6
    assert (
        strokes_of(told)[2]
        != strokes_of(await drawn(service, pb.DrawRequest(prompt="draw a cat", seed=1)))[0]
    )


async def test_points_are_limited(service: Service) -> None:
    told = await drawn(service, pb.DrawRequest(prompt="draw a cat", max_points=12))
    assert (told[-1].reason, told[-1].points) == ("max_points", 12)


async def test_candidates_are_ranked_and_the_best_is_replayed(
    service: Service, fakes: Fakes
) -> None:
    request = pb.DrawRequest(prompt="draw a cat", seed=5, candidates=3)
    told = await drawn(service, request)
    assert told[0].replayed
    assert fakes.opened[0].engine.stats.finished["complete"] == 3
    assert isinstance(told[-1], events.Finished)
    best = strokes_of(told)
    single = strokes_of(await drawn(service, pb.DrawRequest(prompt="draw a cat", seed=5)))
    assert (best == single) == (told[0].candidate == 0)


async def test_understanding(service: Service) -> None:
    wire = drawing_to_wire(SQUARE, "mine")
    tree = await service.annotate(pb.AnnotateRequest(drawing=wire), CALL)
    assert tree.key_id == "mine"
    assert (tree.tree.nodes[0].start, tree.tree.nodes[0].end) == (0, 3)
    assert tree.tree.subject in SUBJECTS
    said = await service.describe(pb.DescribeRequest(drawing=wire, end=2, n_best=3), CALL)
    assert [d.score for d in said.descriptions] == [-1.0, -2.0, -3.0]
    item = pb.ScoreItem(start=0, end=1, text="add a head")
    scores = await service.score(pb.ScoreRequest(drawing=wire, items=[item, item]), CALL)
    assert len(scores.scores) == 2
    assert np.allclose(scores.scores[0], scores.scores[1])


async def test_what_is_served_is_told(service: Service, settings: Settings) -> None:
    told = await service.model_info(pb.ModelInfoRequest(), CALL)
    assert (told.bundle, told.version, told.engine.provider) == ("hitree", "0.0.0+fake", "fake")
    assert told.limits["text_characters"] == LIMITS.text_characters
    assert told.engine.max_rows == settings.max_rows
    assert {"decoder_step", "condition"} <= {model.name for model in told.models}
    subjects = await service.subjects(pb.SubjectsRequest(), CALL)
    assert tuple(subjects.subjects) == SUBJECTS


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.DrawRequest(), EmptyPrompt),
        (pb.DrawRequest(prompt="draw a cat", temperature=2.5), InvalidInput),
        (pb.DrawRequest(prompt="draw a cat", temperature=0), InvalidInput),
        (pb.DrawRequest(prompt="draw a cat", temperature=float("nan")), InvalidInput),
        (pb.DrawRequest(prompt="draw a cat", candidates=17), InvalidInput),
        (pb.DrawRequest(prompt="draw a cat", max_points=2001), InvalidInput),
        (pb.DrawRequest(prompt="draw a cat", priority=77), InvalidInput),
        (pb.DrawRequest(prompt="draw a cat", pace=60), Unimplemented),
        (pb.DrawRequest(prompt="draw a cat", resume={"points": 3}), InvalidInput),
        (pb.DrawRequest(prompt="a cat", seed=1, resume={"points": 2001}), InvalidInput),
        (
            pb.DrawRequest(prompt="a cat", seed=1, resume={"points": 1, "candidate": 16}),
            InvalidInput,
        ),
        (
            pb.DrawRequest(
                prompt="a cat",
                seed=1,
                resume={"strokes": [{"xs": [0, 9], "ys": [0, 9]}], "nodes": [1]},
            ),
            InvalidInput,
        ),
        (pb.DrawRequest(prompt="draw a cat", bundle={"name": "other"}), UnknownBundle),
        (pb.DrawRequest(prompt="x" * (LIMITS.message_bytes + 1)), InvalidInput),
    ],
)
async def test_draw_refuses(
    service: Service, request_: pb.DrawRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await drawn(service, request_)


async def test_deadline_is_kept_while_planning(service: Service, fakes: Fakes) -> None:
    fakes.models.gate.clear()
    call = Call("late", time.monotonic() + 0.05)
    with pytest.raises(DeadlineExceeded, match="plan"):
        await service.plan(pb.PlanRequest(prompt="draw a cat"), call)


async def test_deadline_while_drawing_is_the_last_event(service: Service, fakes: Fakes) -> None:
    fakes.device.hold(after=3)
    call = Call("late", time.monotonic() + 0.2)
    stream = service.draw(pb.DrawRequest(prompt="draw a cat"), call)
    told = [event_from_wire(event) for _ in range(2) for event in ungrouped(await anext(stream))]
    assert told[-1].kind == "points"
    await asyncio.to_thread(fakes.device.held.wait, 20)
    await asyncio.to_thread(wait_until, call.deadline)
    fakes.device.gate.set()
    rest = [event_from_wire(event) async for group in stream for event in ungrouped(group)]
    assert isinstance(rest[-1], events.Failed)
    assert isinstance(rest[-1].error, DeadlineExceeded)


def wait_until(deadline: float | None) -> None:
    """Wait, in a thread, on a lock that nobody gives: until the deadline has passed."""
    threading.Event().wait(max(0, (deadline or 0) - time.monotonic()) + 0.01)


async def test_leaving_cancels_the_drawing(service: Service, fakes: Fakes) -> None:
    fakes.device.hold(after=3)
    stream = service.draw(pb.DrawRequest(prompt="draw a cat"), CALL)
    for _ in range(2):
        await anext(stream)
    await stream.aclose()
    fakes.device.gate.set()
    await drawn(service, pb.DrawRequest(prompt="draw a cat"))
    assert fakes.opened[0].engine.stats.finished["cancelled"] == 1


async def test_full_queue_is_refused_with_a_hint(service: Service, fakes: Fakes) -> None:
    fakes.device.hold()
    request = pb.DrawRequest(prompt="draw a cat")
    streams = [service.draw(request, CALL) for _ in range(12)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(Overloaded) as caught:
        await drawn(service, request)
    assert caught.value.retry_after
    fakes.device.gate.set()
    for stream in streams:
        await stream.aclose()


async def test_what_cannot_be_drawn_is_refused_before_a_model_is_asked(
    service: Service, fakes: Fakes
) -> None:
    fakes.models.gate.clear()
    request = pb.DrawRequest(prompt="draw a cat")
    preparing = [asyncio.create_task(drawn(service, request)) for _ in range(12)]
    await asyncio.to_thread(fakes.models.asked.wait, 20)
    with pytest.raises(Overloaded):  # at once: it does not wait for a model until its deadline
        await drawn(service, request, Call("late", time.monotonic() + 0.1))
    fakes.models.gate.set()
    assert [told[-1].kind for told in await gathered(preparing)] == ["finished"] * 12


@pytest.mark.parametrize(
    ("request_", "count"),
    [
        (pb.DrawRequest(), 1),
        (pb.DrawRequest(candidates=3), 3),
        (pb.DrawRequest(candidates=2**32 - 1), 1),
        (pb.DrawRequest(candidates=3, resume={"points": 1}), 1),
        (pb.DrawRequest(candidates=3, resume={"strokes": [{"xs": [0], "ys": [0]}]}), 1),
        (pb.DrawRequest(candidates=3, resume={}), 3),
    ],
)
def test_how_many_drawings_will_be_made(request_: pb.DrawRequest, count: int) -> None:
    assert intake.candidates(request_) == count


async def test_what_was_begun_elsewhere_may_wait_for_longer(
    service: Service, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, asked = fakes.opened[0].engine, []
    room = engine.room

    def spied(rows: int, *, begun: bool) -> Any:
        asked.append((rows, begun))
        return room(rows, begun=begun)

    monkeypatch.setattr(engine, "room", spied)
    await drawn(service, pb.DrawRequest(prompt="draw a cat", seed=1, candidates=2))
    await drawn(service, pb.DrawRequest(prompt="draw a cat", seed=1, resume={"points": 3}))
    assert asked == [(2, False), (1, True)]


async def test_room_is_given_back_by_what_cannot_be_prepared(service: Service) -> None:
    for _ in range(13):
        with pytest.raises(UnknownSubject):
            await drawn(service, pb.DrawRequest(prompt="draw a car"))
    assert (await drawn(service, pb.DrawRequest(prompt="draw a cat")))[-1].kind == "finished"


async def test_model_calls_that_wait_are_bounded(fakes: Fakes, settings: Settings) -> None:
    settings = settings.model_copy(update={"model_workers": 1, "model_queue": 1})
    service = Service(settings, Metrics())
    service.open(fakes.open(settings))
    fakes.models.gate.clear()
    request = pb.PlanRequest(prompt="draw a cat")
    waiting = [asyncio.create_task(service.plan(request, CALL)) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(Overloaded, match="limit is 2"):
        done.pop().result()
    fakes.models.gate.set()
    assert sum(isinstance(t, pb.PlanResponse) for t in await gathered(waiting)) == 2
    service.stop()


async def test_what_there_is_room_for_is_not_refused_for_its_conditions(
    fakes: Fakes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"model_workers": 1, "model_queue": 1})
    service = Service(settings, Metrics())
    service.open(fakes.open(settings))
    conditions, gate = fakes.models.conditions, threading.Event()

    def held(stacks: list[tuple[str, ...]], subject: str) -> Any:
        assert gate.wait(20)
        return conditions(stacks, subject)

    monkeypatch.setattr(fakes.models, "conditions", held)
    plan = Plan(build([Node(0, None, "draw a cat")]), subject="cat")
    request = pb.DrawRequest(plan=plan_to_wire(plan), max_points=5)
    drawing = [asyncio.create_task(drawn(service, request)) for _ in range(12)]
    asyncio.get_running_loop().call_soon(gate.set)
    assert [told[-1].kind for told in await asyncio.gather(*drawing)] == ["finished"] * 12
    service.stop()


async def test_a_plan_that_is_drawn_again_is_read_once(
    service: Service, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions, read = fakes.models.conditions, []

    def counted(stacks: tuple[tuple[str, ...], ...], subject: str) -> Any:
        read.append((stacks, subject))
        return conditions(stacks, subject)

    monkeypatch.setattr(fakes.models, "conditions", counted)
    texts = ("draw a cat", "draw a cat", "draw an owl")
    plans = [Plan(build([Node(0, None, text)]), subject="cat") for text in texts]
    plans.append(Plan(plans[0].root, subject="flamingo"))
    for seed, plan in enumerate(plans * 2):
        request = pb.DrawRequest(plan=plan_to_wire(plan), seed=seed, max_points=5)
        assert (await drawn(service, request))[-1].kind == "finished"
    assert read == [
        ((("draw a cat",),), "cat"),
        ((("draw an owl",),), "cat"),
        ((("draw a cat",),), "flamingo"),
    ]


async def gathered(tasks: list[Any]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_calls_are_refused_before_opening_and_after_closing(settings: Settings) -> None:
    service = Service(settings, Metrics())
    with pytest.raises(Unavailable, match="starting"):
        await service.plan(pb.PlanRequest(prompt="draw a cat"), CALL)
    service.close()
    with pytest.raises(Unavailable, match="stopping"):
        await drawn(service, pb.DrawRequest(prompt="draw a cat"))
    service.stop()


async def test_running_drawing_outlives_closing(service: Service) -> None:
    stream = service.draw(pb.DrawRequest(prompt="draw a cat"), CALL)
    await anext(stream)
    service.close()
    idle = asyncio.create_task(service.idle())
    rest = [event async for group in stream for event in ungrouped(group)]
    assert rest[-1].WhichOneof("event") == "finished"
    await idle


async def test_broken_device_is_an_error_event_and_serving_goes_on(
    service: Service, fakes: Fakes
) -> None:
    fakes.device.broken = True
    told = await drawn(service, pb.DrawRequest(prompt="draw a cat"))
    assert isinstance(told[-1], events.Failed)
    fakes.device.broken = False
    told = await drawn(service, pb.DrawRequest(prompt="draw a cat"))
    assert told[-1].kind == "finished"


async def test_too_much_is_refused_before_anything_is_made_of_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("drawing", "draw_ask"):
        monkeypatch.setattr(intake, name, None)
    many = pb.ScoreRequest(items=[pb.ScoreItem()] * (LIMITS.plan_nodes + 1))
    with pytest.raises(InvalidInput, match="65 items"):
        await service.score(many, CALL)
    strokes = [pb.Stroke(xs=[1], ys=[1])] * (LIMITS.max_points + 1)
    with pytest.raises(TooManyStrokes, match="2001"):
        await drawn(service, pb.DrawRequest(resume=pb.Resume(strokes=strokes)))


async def test_redraw_and_session_are_not_built(service: Service) -> None:
    with pytest.raises(Unimplemented):
        await anext(service.redraw(pb.RedrawRequest(), CALL))
    with pytest.raises(Unimplemented):
        await anext(service.session(_nothing(), CALL))


async def _nothing() -> Any:
    return
    yield
