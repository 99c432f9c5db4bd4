"""Whatever an HTTP request holds: it is answered, or refused as its own fault; serving goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import strategies as st

from bodies import bodies, headers
from end_to_end.fuzzing import AMOUNTS, SECONDS, fuzz
from hitree.errors import BY_REASON
from messages import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from end_to_end.threads import Inside

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

LINES = {"strokes": [[[10, 10], [20, 20.25]], [[100, 120]]], "key_id": "mine"}
PLAN = {
    "subject": "cat",
    "nodes": [
        {"id": 0, "text": "draw a cat"},
        {"id": 1, "parent": 0, "text": "add a head", "score": -0.5},
        {"id": 2, "parent": 0, "text": "add a tail"},
    ],
}
QUICK = {"expansions": 2, "max_depth": 1, "max_nodes": 6, "nearest_subject": True}
RESUME = {"strokes": LINES["strokes"], "nodes": [1, 2], "last_stroke_finished": True}
TENSORS = [
    {"name": "tokens", "datatype": "FP32", "shape": [1, 1, 128], "data": [0.5] * 128},
    {"name": "mask", "datatype": "FP32", "shape": [1, 1], "data": [[1]]},
]
GOOD: dict[str, list[Any]] = {
    "/v1/plan": [{"prompt": "draw a cat", "seed": 1, "options": QUICK}],
    "/v1/draw": [
        {"plan": PLAN, "canvas": LINES, "seed": 1, "max_points": 9, "temperature": 0.5},
        {"plan": PLAN, "seed": 1, "max_points": 9, "resume": RESUME},
        {"plan": PLAN, "seed": 1, "max_points": 5, "candidates": 3, "priority": "low"},
    ],
    "/v1/annotate": [{"drawing": LINES, "parser": "cky", "max_nodes": 3, "subject": "cat"}],
    "/v1/describe": [{"drawing": LINES, "start": 0, "end": 2, "n_best": 2}],
    "/v1/score": [{"drawing": LINES, "items": [{"start": 0, "end": 1, "text": "add a line"}]}],
    "/v2/models/scorer_texts/infer": [{"id": "mine", "inputs": TENSORS}],
}


@dataclass(frozen=True)
class Door:
    """The HTTP door of a running service."""

    inside: Inside
    client: httpx.Client

    def check(self, path: str, body: bytes, sent: dict[str, bytes]) -> None:
        """Post a body, and look at how it is answered."""
        reply = self.client.post(path, content=body, headers=sent)
        assert reply.elapsed.total_seconds() < SECONDS
        if reply.status_code != 200:
            check_refusal(path, reply, timed="x-hitree-timeout-ms" in sent)
        elif path == "/v1/draw":
            assert reply.headers["content-type"].startswith("text/event-stream")
            last = json.loads(reply.text.strip().rpartition("data: ")[2])
            assert last["kind"] == "finished" or sent, last
        self.inside.settle()


def check_refusal(path: str, reply: httpx.Response, *, timed: bool) -> None:
    """The caller's fault, and says so in the words of its path."""
    error = reply.json()["error"]
    allowed = {501, 504} if timed else {501}
    assert reply.status_code < 500 or reply.status_code in allowed, reply.text
    if path.startswith("/v2"):
        assert error
        assert isinstance(error, str)
        return
    assert error.keys() == {"reason", "message", "details", "retry_after_ms"}
    assert BY_REASON[error["reason"]].http_status == reply.status_code


@pytest.fixture(scope="module")
def door(tiny: Inside) -> Iterator[Door]:
    with httpx.Client(base_url=tiny.http, timeout=SECONDS) as client:
        yield Door(tiny, client)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("path", GOOD)
def test_any_body_is_answered_or_refused(door: Door, path: str, amount: int) -> None:
    good = st.sampled_from(GOOD[path])
    encoded = good.map(lambda body: json.dumps(body).encode())
    drawn = good.flatmap(bodies) | encoded.flatmap(damaged) | st.binary()
    fuzz(amount, st.tuples(drawn, st.just({})), lambda one: door.check(path, *one))
    serves_on(door, path)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("path", GOOD)
def test_any_headers_are_heeded_or_refused(door: Door, path: str, amount: int) -> None:
    encoded = st.sampled_from(GOOD[path]).map(lambda body: json.dumps(body).encode())
    fuzz(amount, st.tuples(encoded, headers), lambda one: door.check(path, *one))
    serves_on(door, path)


def serves_on(door: Door, path: str) -> None:
    """What is right is still answered, and nothing that was wrong was a fault of ours."""
    for body in GOOD[path]:
        assert door.client.post(path, json=body).status_code == 200
    door.inside.settle()
    assert door.inside.faults() == 0
