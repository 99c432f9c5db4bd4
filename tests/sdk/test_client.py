"""Calls of both twins: what is asked, what comes back, what is refused."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import hitree_sdk
from hitree import codec, errors
from hitree.drawing import Drawing
from hitree.limits import LIMITS
from hitree.tree import Node, Plan
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import AsyncClient, AsyncDrawStream, Client, DrawStream, Sketch, _call
from sdk.fakes import PLAN, STROKES, AsyncTwin, Script, SyncTwin, drawing_events, wired

if TYPE_CHECKING:
    Twin = SyncTwin | AsyncTwin

TREE = pb.AnnotateResponse(tree=codec.plan_to_wire(PLAN.with_spans({1: (0, 2), 2: (2, 3)})))


async def test_plan(twin: Twin) -> None:
    script = Script([pb.PlanResponse(plan=codec.plan_to_wire(PLAN))])
    plan = await twin.call(
        twin.client(script),
        "plan",
        "  draw a flamingo ",
        seed=0,
        temperature=0.5,
        nearest_subject=True,
        max_nodes=9,
    )
    assert plan == PLAN
    assert [node.text for node in plan.leaves] == ["add the body", "add two legs"]
    options = pb.PlanOptions(nearest_subject=True, temperature=0.5, max_nodes=9)
    asked = pb.PlanRequest(prompt="draw a flamingo", seed=0, options=options)
    method, request, timeout = script.calls[0]
    assert (method, request) == ("Plan", asked)
    assert 59 < timeout <= 60


@pytest.mark.parametrize(
    "drawing", [STROKES, [s.tolist() for s in STROKES], Drawing.of(STROKES), Sketch(STROKES)]
)
async def test_annotate_takes_every_kind_of_drawing(twin: Twin, drawing: Any) -> None:
    script = Script([TREE])
    tree = await twin.call(twin.client(script), "annotate", drawing, parser="greedy")
    assert [(node.start, node.end) for node in tree.nodes] == [(0, 3), (0, 2), (2, 3)]
    request = script.calls[0][1]
    assert request.drawing == codec.drawing_to_wire(Drawing.of(STROKES))
    assert (request.subject, request.parser) == ("", pb.PARSER_GREEDY)


async def test_annotate_uses_what_the_sketch_knows(twin: Twin) -> None:
    script = Script([TREE] * 3)
    sketch = Sketch(STROKES, subject="flamingo", key_id="k")
    client = twin.client(script)
    for options in ({}, {"subject": ""}, {"subject": "swan"}):
        await twin.call(client, "annotate", sketch, **options)
    assert [request.subject for _, request, _ in script.calls] == ["flamingo", "", "swan"]
    assert script.calls[0][1].drawing.key_id == "k"


async def test_describe_and_score(twin: Twin) -> None:
    described = pb.DescribeResponse(descriptions=[pb.Description(text="add a leg", score=-1)])
    script = Script([described, pb.ScoreResponse(scores=[0.5, 0.25])])
    client = twin.client(script)
    assert await twin.call(client, "describe", STROKES, 0, 2, n_best=3) == [
        hitree_sdk.Description("add a leg", -1)
    ]
    items = [hitree_sdk.ScoreItem(0, 1, "add a leg"), Node(2, 0, "add a wing", 1, 3)]
    assert await twin.call(client, "score", STROKES, items) == [0.5, 0.25]
    asked = script.calls[1][1].items
    assert [(i.start, i.end, i.text) for i in asked] == [(0, 1, "add a leg"), (1, 3, "add a wing")]
    assert script.calls[0][1].n_best == 3


async def test_model_info_and_subjects(twin: Twin) -> None:
    reply = pb.ModelInfoResponse(
        bundle="hitree-bundle",
        models=[pb.ModelEntry(name="condition", file="condition.onnx", sha256="ab")],
        engine=pb.EngineInfo(provider="CPUExecutionProvider", buckets=[1, 2, 4]),
        metrics={"decoder.nll": 0.5},
        limits={"candidates": 16},
        bundles=[{"name": "hitree", "version": "1"}, {"name": "birds", "version": "2+ab"}],
    )
    script = Script([reply, pb.SubjectsResponse(subjects=["cat", "sea turtle"])])
    client = twin.client(script)
    info = await twin.call(client, "model_info")
    assert info.models == (hitree_sdk.ModelEntry("condition", "condition.onnx", "ab"),)
    assert info.engine.buckets == (1, 2, 4)
    assert info.bundles == ("hitree@1", "birds@2+ab")
    assert info.metrics == {"decoder.nll": 0.5}
    assert await twin.call(client, "subjects") == ["cat", "sea turtle"]


@pytest.mark.parametrize(
    ("bundle", "choice"),
    [
        (None, {}),
        ("birds", {"name": "birds"}),
        ("birds@2+ab", {"name": "birds", "version": "2+ab"}),
        ("@2+ab", {"version": "2+ab"}),
    ],
)
async def test_every_call_asks_for_the_clients_bundle(
    twin: Twin, bundle: str | None, choice: dict[str, str]
) -> None:
    plan, described = pb.PlanResponse(plan=codec.plan_to_wire(PLAN)), pb.DescribeResponse()
    info, subjects = pb.ModelInfoResponse(), pb.SubjectsResponse()
    answers = [plan, wired(drawing_events()), TREE, described, pb.ScoreResponse(), info, subjects]
    script = Script(list(answers))
    client = twin.client(script, bundle=bundle)
    await twin.call(client, "plan", "draw a flamingo")
    await twin.call(client.draw("draw a flamingo"), "result")
    await twin.call(client, "annotate", STROKES)
    await twin.call(client, "describe", STROKES, 0, 1)
    await twin.call(client, "score", STROKES, [hitree_sdk.ScoreItem(0, 1, "add a leg")])
    await twin.call(client, "model_info")
    await twin.call(client, "subjects")
    assert len(script.calls) == len(answers)
    for method, request, _ in script.calls:
        assert request.bundle == pb.BundleChoice(**choice), method
        assert request.HasField("bundle") == bool(choice), method


async def test_passing_failures_are_tried_again(twin: Twin, naps: list[float]) -> None:
    script = Script(
        [
            errors.Unavailable("starting"),
            errors.Overloaded("full", retry_after=0.75),
            pb.SubjectsResponse(subjects=["cat"]),
        ]
    )
    assert await twin.call(twin.client(script), "subjects") == ["cat"]
    assert len(naps) == 2
    assert naps[1] == 0.75


async def test_other_failures_are_raised_at_once(twin: Twin, naps: list[float]) -> None:
    script = Script([errors.UnknownSubject("what is a blorp?", details={"nearest": "cat"})])
    with pytest.raises(errors.UnknownSubject) as raised:
        await twin.call(twin.client(script), "plan", "draw a blorp")
    assert raised.value.details == {"nearest": "cat"}
    assert naps == []


async def test_retries_can_be_switched_off(twin: Twin, naps: list[float]) -> None:
    script = Script([errors.Unavailable("down")])
    with pytest.raises(errors.Unavailable):
        await twin.call(twin.client(script, retries=0), "subjects")
    assert naps == []


async def test_no_wait_goes_beyond_the_deadline(twin: Twin, naps: list[float]) -> None:
    script = Script([errors.Overloaded("full", retry_after=30)])
    with pytest.raises(errors.Overloaded):
        await twin.call(twin.client(script), "subjects", timeout=5)
    assert naps == []


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], type[errors.HiTreeError]]] = [
    ("plan", (" ",), {}, errors.EmptyPrompt),
    ("plan", ("x" * 501,), {}, errors.PromptTooLong),
    ("plan", (None,), {}, errors.NotText),
    ("plan", ("draw a cat",), {"seed": -1}, errors.InvalidInput),
    ("plan", ("draw a cat",), {"seed": 2**64}, errors.InvalidInput),
    ("plan", ("draw a cat",), {"seed": 1.5}, errors.InvalidInput),
    ("plan", ("draw a cat",), {"seed": True}, errors.InvalidInput),
    ("plan", ("draw a cat",), {"max_nodes": LIMITS.plan_nodes + 1}, errors.InvalidInput),
    ("plan", ("draw a cat",), {"timeout": 0}, errors.InvalidInput),
    ("plan", ("draw a cat",), {"timeout": float("nan")}, errors.InvalidInput),
    ("draw", (Sketch(STROKES),), {}, errors.NotText),
    ("draw", ("draw a cat",), {"temperature": 0}, errors.InvalidInput),
    ("draw", ("draw a cat",), {"temperature": 2.5}, errors.InvalidInput),
    ("draw", ("draw a cat",), {"temperature": "hot"}, errors.InvalidInput),
    ("draw", ("draw a cat",), {"max_points": 0}, errors.InvalidInput),
    ("draw", ("draw a cat",), {"candidates": 17}, errors.InvalidInput),
    ("draw", ("draw a cat",), {"canvas": [[[0, 0], [1, 1]]] * 129}, errors.TooManyStrokes),
    ("draw", ("draw a cat",), {"timeout": "soon"}, errors.InvalidInput),
    ("annotate", ([],), {}, errors.EmptyDrawing),
    ("annotate", (None,), {}, errors.InvalidDrawing),
    ("annotate", ("strokes",), {}, errors.InvalidDrawing),
    ("annotate", ([[[1, 2]]],), {}, errors.SinglePoint),
    ("annotate", ([[[1, 2], [np.nan, 3]]],), {}, errors.NotFinite),
    ("annotate", ([[[1, 2], [9e9, 3]]],), {}, errors.OutOfFrame),
    ("annotate", ([[[1, 2], [3, 4]]] * 10_000,), {}, errors.TooManyStrokes),
    ("annotate", (STROKES,), {"parser": "lalr"}, errors.InvalidInput),
    ("describe", (STROKES, 2, 2), {}, errors.InvalidInput),
    ("describe", (STROKES, 0, 4), {}, errors.InvalidInput),
    ("describe", (STROKES, 0, 1), {"n_best": 0}, errors.InvalidInput),
    ("score", (STROKES, []), {}, errors.InvalidInput),
    ("score", (STROKES, [Node(0, None, "add a leg")]), {}, errors.InvalidInput),
]


@pytest.mark.parametrize(("name", "args", "options", "expected"), WRONG)
async def test_wrong_input_is_refused_before_anything_is_sent(
    twin: Twin,
    name: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    expected: type[errors.HiTreeError],
) -> None:
    script = Script([])
    with pytest.raises(expected) as raised:
        await twin.call(twin.client(script), name, *args, **options)
    assert type(raised.value) is expected
    assert script.calls == []


def test_a_request_beyond_one_message_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="split it"):
        _call.check_size(pb.ScoreRequest(items=[pb.ScoreItem(text="x" * LIMITS.message_bytes)]))


async def test_closing(twin: Twin) -> None:
    script = Script([])
    await twin.call(twin.client(script), "close")
    assert script.closed == 1


async def test_messages_tell_the_limits(twin: Twin) -> None:
    client = twin.client(Script([]))
    with pytest.raises(errors.InvalidInput, match="n_best is 17; give a whole number from 1 to 16"):
        await twin.call(client, "describe", STROKES, 0, 1, n_best=17)
    items = [hitree_sdk.ScoreItem(0, 1, "add a leg")] * 65
    with pytest.raises(errors.InvalidInput, match="there are 65 items to score; give 1 to 64"):
        await twin.call(client, "score", STROKES, items)


async def test_a_closed_client_calls_nobody(twin: Twin) -> None:
    begin = "__next__" if isinstance(twin, SyncTwin) else "__anext__"
    script = Script([wired(drawing_events())])
    client = twin.client(script)
    begun, waiting = client.draw(PLAN), client.draw(PLAN)
    await twin.call(begun, begin)
    await twin.call(client, "close")
    for stream in (begun, waiting, client.draw(PLAN)):
        with pytest.raises(errors.ClientClosed, match="make another one"):
            await twin.call(stream, "result")
    with pytest.raises(errors.ClientClosed):
        await twin.call(client, "plan", "draw a flamingo")
    assert len(script.calls) == 1


def test_clients_close_at_the_end_of_their_block() -> None:
    script = Script([])
    with SyncTwin().client(script):
        assert script.closed == 0
    assert script.closed == 1


async def test_async_clients_close_at_the_end_of_their_block() -> None:
    script = Script([])
    async with AsyncTwin().client(script):
        assert script.closed == 0
    assert script.closed == 1


def public(cls: type) -> dict[str, Any]:
    return {name: f for name, f in vars(cls).items() if inspect.isfunction(f) and name[:1] != "_"}


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (DrawStream, AsyncDrawStream)])
def test_twins_agree_on_names_parameters_and_annotations(one: type, other: type) -> None:
    assert public(one).keys() == public(other).keys()
    pairs = [(f, public(other)[name]) for name, f in public(one).items()]
    for blocking, waiting in [(one.__init__, other.__init__), *pairs]:
        assert _shape(blocking) == _shape(waiting), blocking.__name__
        assert inspect.iscoroutinefunction(waiting) == (
            waiting.__name__ not in ("__init__", "draw")
        )


def _shape(function: Any) -> list[tuple[str, Any, Any, str]]:
    """Names, kinds, defaults and annotations; types that have a twin go by one name."""
    signature = inspect.signature(function)
    parameters = [
        (p.name, p.kind, p.default, str(p.annotation)) for p in signature.parameters.values()
    ]
    returned = ("return", None, None, str(signature.return_annotation))
    return [(*rest, note.replace("Async", "")) for *rest, note in [*parameters, returned]]


def test_the_plan_of_the_wire_is_the_users_plan() -> None:
    assert hitree_sdk.Plan is Plan
