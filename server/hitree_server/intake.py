"""Requests checked at the door: messages in, typed and legal values out.

How much they hold has been checked before, see `hitree_server.counts`.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hitree.codec import drawing_from_wire, plan_from_wire
from hitree.errors import InvalidInput, Unimplemented, UnknownBundle
from hitree.limits import LIMITS
from hitree.parse import PARSER
from hitree.text import check_text
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb
from hitree_server.resume import Held, held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from hitree.drawing import Drawing
    from hitree_server.backend import Backend

MAX_TEMPERATURE = 2.0
_SEED_BITS = 53  # a seed of ours survives JavaScript's numbers

PARSERS = {
    pb.PARSER_UNSPECIFIED: PARSER,
    pb.PARSER_GREEDY: "greedy",
    pb.PARSER_CKY: "cky",
    pb.PARSER_BOTTOM_UP: "bottom_up",
}
_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: 0,
    pb.PRIORITY_LOW: -1,
    pb.PRIORITY_NORMAL: 0,
    pb.PRIORITY_HIGH: 1,
}


@dataclass(frozen=True)
class PlanAsk:
    """A plan that is wanted; the planner checks the options."""

    prompt: str
    seed: int
    expansions: int  # sampled and ranked; 0: the planner's default, as below
    max_depth: int
    max_nodes: int
    nearest: bool  # take the nearest subject where none is recognised
    temperature: float


@dataclass(frozen=True, eq=False)
class DrawAsk:
    """A drawing that is wanted."""

    ask: PlanAsk  # what to plan; where there is a plan, its prompt is the root's text
    plan: Plan | None  # without spans
    canvas: Drawing | None
    temperature: float | None
    max_points: int
    candidates: int
    priority: int
    held: Held | None  # what the caller has of it


def check_size(request: Message) -> None:
    """Refuse a message beyond the limit, whatever carried it."""
    size = request.ByteSize()
    if size > LIMITS.message_bytes:
        raise InvalidInput(
            f"the message has {size} bytes, the limit is {LIMITS.message_bytes}; send less"
        )


def check_tag(text: str, noun: str) -> None:
    """Refuse a long text that is free to the caller and comes back: a reply has a limit, too."""
    if len(text) > LIMITS.text_characters:
        raise InvalidInput(
            f"the {noun} has {len(text)} characters, the limit is {LIMITS.text_characters}; "
            "send a shorter one"
        )


def chosen(choice: pb.BundleChoice, backends: Sequence[Backend]) -> Backend:
    """The first backend whose bundle has the name and the version, as far as they are given.

    Raises:
        UnknownBundle: there is none.
    """
    for backend in backends:
        manifest = backend.manifest
        if choice.name in ("", manifest.name) and choice.version in ("", manifest.version):
            return backend
    served = ", ".join(backend.manifest.label for backend in backends)
    raise UnknownBundle(
        f"no bundle of the name {choice.name!r} and the version {choice.version!r} is served here; "
        f"leave the choice out or choose one of {served}",
        details={"served": served},
    )


def plan_ask(request: pb.PlanRequest) -> PlanAsk:
    """Check a `PlanRequest`."""
    if request.canvas.strokes:
        raise Unimplemented("planning on a canvas is not built yet; leave the canvas out")
    seed = request.seed if request.HasField("seed") else None
    return _ask(check_text(request.prompt), seed, request.options)


def draw_ask(request: pb.DrawRequest) -> DrawAsk:
    """Check a `DrawRequest`."""
    _check_built(request)
    plan = _plan(request.plan) if request.WhichOneof("what") == "plan" else None
    prompt = plan.root.text if plan else check_text(request.prompt)
    seed = request.seed if request.HasField("seed") else None
    canvas, most = _canvas(request.canvas), request.max_points
    holding = _held(request, plan, canvas)
    return DrawAsk(
        ask=_ask(prompt, seed, request.plan_options),
        plan=plan,
        canvas=canvas,
        temperature=_temperature(request.temperature) if request.HasField("temperature") else None,
        max_points=_count("max_points", most, LIMITS.max_points) or LIMITS.max_points,
        candidates=_count("candidates", request.candidates, LIMITS.candidates) or 1,
        priority=_priority(request),
        held=holding,
    )


def _priority(request: pb.DrawRequest) -> int:
    if request.priority not in _PRIORITIES:
        raise InvalidInput(
            f"there is no priority {request.priority}; send 0 (the default) to {max(_PRIORITIES)}"
        )
    return _PRIORITIES[request.priority]


def candidates(request: pb.DrawRequest) -> int:
    """How many drawings a request that is not checked yet asks for; 1 where it asks too much."""
    chosen = request.resume.strokes or request.resume.points  # one was, when it began
    return request.candidates if 0 < request.candidates <= LIMITS.candidates and not chosen else 1


def drawing(message: pb.Drawing) -> Drawing:
    """Check a drawing that is to be understood."""
    check_tag(message.key_id, "drawing's key_id")
    return _drawing(message, "drawing", LIMITS.drawing_strokes, LIMITS.drawing_points)


def parser(request: pb.AnnotateRequest) -> str:
    """The name of the parser that is asked for."""
    try:
        return PARSERS[request.parser]
    except KeyError:
        raise InvalidInput(
            f"there is no parser {request.parser}; send 0 (the default) to {max(PARSERS)}"
        ) from None


def _check_built(request: pb.DrawRequest) -> None:
    if request.pace:
        raise Unimplemented("pace is not built yet; leave it out (0) to draw unpaced")
    if request.WhichOneof("what") is None:
        check_text("")


def _ask(prompt: str, seed: int | None, options: pb.PlanOptions) -> PlanAsk:
    return PlanAsk(
        prompt=prompt,
        seed=secrets.randbits(_SEED_BITS) if seed is None else seed,
        expansions=options.expansions,
        max_depth=options.max_depth,
        max_nodes=options.max_nodes,
        nearest=options.nearest_subject,
        temperature=options.temperature,
    )


def _plan(message: pb.Plan) -> Plan:
    """A plan to draw: every text is checked, spans of an earlier drawing are dropped."""
    check_tag(message.prompt, "plan's prompt")
    plan = plan_from_wire(message)
    nodes = [
        Node(n.id, n.parent, check_text(n.text, f"instruction of node {n.id}"), score=n.score)
        for n in plan.nodes
    ]
    return replace(plan, root=build(nodes))


def _held(request: pb.DrawRequest, plan: Plan | None, canvas: Drawing | None) -> Held | None:
    if not request.HasField("resume"):
        return None
    if not request.HasField("seed"):
        raise InvalidInput("resume needs the seed of the drawing; send that of the started event")
    found = held(request.resume, plan, canvas)
    most = request.max_points or LIMITS.max_points
    if found and (found.points > most or found.candidate >= LIMITS.candidates):
        raise InvalidInput(
            f"resume is of {found.points} points of candidate {found.candidate}; there are {most} "
            f"points at most, and candidates 0 to {LIMITS.candidates - 1}"
        )
    return found


def _canvas(message: pb.Drawing) -> Drawing | None:
    if not message.strokes:
        return None
    return _drawing(message, "canvas", LIMITS.canvas_strokes, LIMITS.canvas_points)


def _drawing(message: pb.Drawing, noun: str, strokes: int, points: int) -> Drawing:
    return drawing_from_wire(message).check(max_strokes=strokes, max_points=points, noun=noun)


def _temperature(value: float) -> float:
    if not (math.isfinite(value) and 0 < value <= MAX_TEMPERATURE):
        raise InvalidInput(
            f"the temperature is {value:g}; send a number above 0 and up to {MAX_TEMPERATURE:g}"
        )
    return value


def _count(name: str, value: int, limit: int) -> int:
    if value > limit:
        raise InvalidInput(f"{name} is {value}, the limit is {limit}; send {limit} or less")
    return value
