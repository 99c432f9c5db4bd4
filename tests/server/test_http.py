"""The HTTP door: bodies, statuses, events, OpenAPI, probes, metrics, the page."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from opentelemetry import trace

from fakes import settle
from hitree.errors import BY_REASON
from hitree.limits import LIMITS
from hitree.v1 import hitree_pb2 as pb
from hitree_server import http, openapi, openapi_inference, openapi_requests
from hitree_server.http import HEEDED, OPERATIONS, error_response
from server.conftest import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from server.conftest import Fakes, Serving

    NewServer = Callable[..., AbstractAsyncContextManager[Serving]]

LINES = {"strokes": [[[10, 10], [20, 20]], [[30, 10], [40, 20]]]}


async def test_bentoml_makes_no_spans_of_its_own(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        server.app.metrics, "render", lambda: seen.append(trace.get_current_span()) or b""
    )
    assert (await server.http.get("/metrics")).status_code == 200
    assert seen == [trace.INVALID_SPAN]


@pytest.mark.parametrize("reason", BY_REASON)
def test_every_error_has_its_status_and_body(reason: str) -> None:
    error = BY_REASON[reason]("what happened", details={"a": "b"}, retry_after=1.5)
    response = error_response(error)
    assert response.status_code == error.http_status
    assert json.loads(response.body) == {
        "error": {
            "reason": reason,
            "message": "what happened",
            "retry_after_ms": 1500,
            "details": {"a": "b"},
        }
    }
    assert response.headers["retry-after"] == "2"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        ('{"prompt": "a cat", "sed": 1}', "UNKNOWN_FIELD", "sed"),
        ('{"prompt": "a cat", "options": {"deep": 1}}', "UNKNOWN_FIELD", "options.deep"),
        ('{"prompt": 7}', "NOT_TEXT", "int"),
        ('{"prompt": null}', "NOT_TEXT", "NoneType"),
        ('{"prompt": "a cat", "seed": -1}', "INVALID_INPUT", "seed"),
        ('{"prompt": "a cat", "options": {"temperature": NaN}}', "NOT_FINITE", "temperature"),
        ('["a cat"]', "INVALID_INPUT", "object"),
        ('{"prompt": ', "INVALID_INPUT", "JSON"),
        ("", "INVALID_INPUT", "JSON"),
        ("[" * 100_000, "INVALID_INPUT", "JSON"),
        (b"\xff\xfe\xff", "INVALID_INPUT", "JSON"),
        ('"' + "x" * LIMITS.message_bytes + '"', "INVALID_INPUT", "longer"),
    ],
)
async def test_bodies_are_refused(
    shared_server: Serving, body: str | bytes, reason: str, says: str
) -> None:
    response = await shared_server.http.post("/v1/plan", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["reason"]) == (400, reason)
    assert says in error["message"]
    assert error.keys() == {"reason", "message", "details", "retry_after_ms"}
    assert (await shared_server.http.post("/v1/plan", json={"prompt": "a cat"})).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("strokes", "reason"),
    [
        ("[[[NaN, 0], [1, 1]]]", "NOT_FINITE"),
        ("[[[1e999, 0], [1, 1]]]", "NOT_FINITE"),
        ("[[[1, 0, 2], [1, 1, 2]]]", "INVALID_DRAWING"),
        ('[[["1", "0"]]]', "INVALID_DRAWING"),
        ("[[]]", "EMPTY_DRAWING"),
        ("[]", "EMPTY_DRAWING"),
        ("[[[1, 1]]]", "SINGLE_POINT"),
        ("[[[0, 0], [1e6, 0]]]", "OUT_OF_FRAME"),
        ("[[[0, 0], [1e30, 0]]]", "OUT_OF_FRAME"),
    ],
)
async def test_drawings_are_refused(shared_server: Serving, strokes: str, reason: str) -> None:
    body = f'{{"drawing": {{"strokes": {strokes}}}}}'
    response = await shared_server.http.post("/v1/annotate", content=body)
    assert (response.status_code, response.json()["error"]["reason"]) == (400, reason)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("annotate", {"drawing": {"strokes": [[[1, 1]]] * 513}}, "TOO_MANY_STROKES"),
        ("score", {"items": [{}] * 65}, "INVALID_INPUT"),
        ("draw", {"plan": {"nodes": [{}] * 65}}, "INVALID_PLAN"),
        ("draw", {"prompt": "a cat", "resume": {"nodes": [0] * 2001}}, "INVALID_INPUT"),
    ],
)
async def test_too_much_is_refused_before_a_message_is_made_of_it(
    shared_server: Serving, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, reason: str
) -> None:
    monkeypatch.setattr(http, "from_json", None)
    response = await shared_server.http.post(f"/v1/{path}", json=body)
    assert (response.status_code, response.json()["error"]["reason"]) == (400, reason)


@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_subject_is_404_with_the_nearest(shared_server: Serving) -> None:
    response = await shared_server.http.post("/v1/draw", json={"prompt": "draw a car"})
    error = response.json()["error"]
    assert (response.status_code, error["reason"]) == (404, "UNKNOWN_SUBJECT")
    assert error["details"]["nearest"] == "cat, flamingo, sea turtle"


@pytest.mark.asyncio(loop_scope="module")
async def test_events_are_framed(shared_server: Serving) -> None:
    request = {"prompt": "draw a cat", "seed": 1}
    headers = {"x-request-id": "mine-1"}
    response = await shared_server.http.post("/v1/draw", json=request, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"] == "mine-1"
    blocks = [block.splitlines() for block in response.text.strip().split("\n\n")]
    events = [json.loads(block[2].removeprefix("data: ")) for block in blocks]
    assert [event["index"] for event in events] == list(range(len(blocks)))
    points = np.cumsum([len(e["points"]) if e["kind"] == "points" else 0 for e in events])
    strokes = np.cumsum([event["kind"] == "stroke_finished" for event in events])
    places = zip(points.tolist(), strokes.tolist(), strict=True)
    assert [block[0] for block in blocks] == [f"id: {p}-{s}-0" for p, s in places]
    assert [f"event: {event['kind']}" for event in events] == [block[1] for block in blocks]
    assert (events[0]["kind"], events[-1]["kind"]) == ("started", "finished")
    assert events[0]["request_id"] == "mine-1"
    assert events[-1]["timings"].keys() == {"queued_ms", "first_point_ms", "total_ms"}


async def test_events_come_while_the_drawing_is_made(server: Serving) -> None:
    server.fakes.device.hold(after=3)
    async with server.http.stream("POST", "/v1/draw", json={"prompt": "a cat"}) as response:
        lines = response.aiter_lines()
        while '"kind":"points"' not in await anext(lines):
            pass
        server.fakes.device.gate.set()
        rest = [line async for line in lines]
    assert any("finished" in line for line in rest)


async def test_leaving_cancels_the_drawing(server: Serving) -> None:
    server.fakes.device.hold(after=3)
    async with server.http.stream("POST", "/v1/draw", json={"prompt": "a cat"}) as response:
        await anext(response.aiter_lines())
    await server.app.service.idle()
    server.fakes.device.gate.set()
    await server.http.post("/v1/draw", json={"prompt": "a cat"})
    assert server.fakes.opened[0].engine.stats.finished["cancelled"] == 1


async def test_leaving_cancels_a_call_that_is_not_answered_yet(server: Serving) -> None:
    server.fakes.models.gate.clear()
    asked = asyncio.create_task(server.http.post("/v1/plan", json={"prompt": "a cat"}))
    assert await asyncio.to_thread(server.fakes.models.asked.wait, 20)
    asked.cancel()
    async with asyncio.timeout(20):
        await server.app.service.idle()  # the model is still at it
    server.fakes.models.gate.set()
    assert (await server.http.post("/v1/plan", json={"prompt": "a cat"})).status_code == 200
    counted = {"door": "http", "method": "Plan", "code": "CANCELLED"}
    assert server.app.metrics.registry.get_sample_value("hitree_calls_total", counted) == 1


async def test_error_in_the_middle_is_the_last_event(server: Serving) -> None:
    server.fakes.device.broken = True
    response = await server.http.post("/v1/draw", json={"prompt": "a cat"})
    last = json.loads(response.text.strip().split("data: ")[-1])
    assert (response.status_code, last["kind"]) == (200, "error")
    assert last["error"].keys() == {"reason", "message", "details", "retry_after_ms"}


async def test_timeout_header_is_the_deadline(server: Serving) -> None:
    server.fakes.models.gate.clear()
    headers = {"x-hitree-timeout-ms": "50"}
    response = await server.http.post("/v1/plan", json={"prompt": "a cat"}, headers=headers)
    assert (response.status_code, response.json()["error"]["reason"]) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "timeout", ["", "soon", "-1", "1.5", "1_0", "9" * 400, "9" * 5000, b"\xb2"]
)
async def test_a_timeout_is_whole_milliseconds(
    shared_server: Serving, timeout: str | bytes
) -> None:
    headers = {"x-hitree-timeout-ms": timeout}
    response = await shared_server.http.get("/v1/model", headers=headers)
    assert (response.status_code, response.json()["error"]["reason"]) == (400, "INVALID_INPUT")


async def test_leaving_before_the_request_is_whole_is_no_fault(server: Serving) -> None:
    _, client = await asyncio.open_connection("127.0.0.1", server.http_port)
    client.write(b"POST /v1/plan HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
    await client.drain()
    client.close()
    rejected = server.app.metrics.registry
    async with asyncio.timeout(10):
        while not rejected.get_sample_value("hitree_rejected_total", {"reason": "CANCELLED"}):
            await settle()
    assert rejected.get_sample_value("hitree_rejected_total", {"reason": "INTERNAL"}) is None


async def test_fault_is_500_with_the_request_id(server: Serving) -> None:
    server.fakes.models.fault = ZeroDivisionError("a bug")
    headers = {"x-request-id": "mine-2"}
    response = await server.http.post("/v1/plan", json={"prompt": "a cat"}, headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["reason"]) == (500, "INTERNAL")
    assert error["details"] == {"request_id": "mine-2"}
    assert response.headers["x-request-id"] == "mine-2"
    assert "bug" not in error["message"]


@pytest.mark.asyncio(loop_scope="module")
async def test_probes_metrics_and_page(shared_server: Serving) -> None:
    http = shared_server.http
    for path in ("/livez", "/readyz"):
        assert (await http.get(path)).status_code == 200
    await http.post("/v1/draw", json={"prompt": "a cat"})
    metrics = await http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "hitree_step_rows_bucket" in metrics.text
    page = await http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<canvas" in page.text
    script = await http.get("/app.js")
    assert "javascript" in script.headers["content-type"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/v1/plan", 405),
        ("GET", "/v2/models/doubling/infer", 405),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/nothing", 404),
    ],
)
async def test_unknown_routes_have_our_body(
    shared_server: Serving, verb: str, path: str, status: int
) -> None:
    response = await shared_server.http.request(verb, path)
    assert response.status_code == status
    assert f"{verb} {path}" in response.json()["error"]["message"]
    assert response.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.asyncio(loop_scope="module")
async def test_openapi_describes_what_is_served(shared_server: Serving) -> None:
    document = (await shared_server.http.get("/openapi.json")).json()
    assert document == (await shared_server.http.get("/docs.json")).json()
    for operation in OPERATIONS:
        body = document["paths"][operation.path][operation.verb]
        assert body["operationId"] == operation.name
        names = {"x-request-id", "x-hitree-timeout-ms"}
        names |= {"last-event-id"} if operation.streams else set()
        names |= {"bundle.name", "bundle.version"} if operation.verb == "get" else set()
        assert names == {p["name"] for p in body["parameters"]}
        assert {"400", "404", "429", "503"} <= body["responses"].keys()
    for template, verbs in document["paths"].items():
        path = template.format(model="doubling", version="0.0.0+fake")
        for verb in verbs.keys() & {"get", "post"}:
            content = {"content": "{}"} if verb == "post" else {}
            response = await shared_server.http.request(verb.upper(), path, **content)
            assert response.status_code in {200, 400}, (verb, path)
    assert not list(dangling(document, document["components"]["schemas"]))


@pytest.mark.asyncio(loop_scope="module")
async def test_documented_requests_are_answered(shared_server: Serving) -> None:
    asked = {operation.request.DESCRIPTOR.name: operation.path for operation in OPERATIONS}
    for name, example in openapi_requests.EXAMPLES.items():
        response = await shared_server.http.post(asked[name], json=example)
        assert response.status_code == 200, response.text


def test_documented_limits_are_of_fields_that_there_are() -> None:
    names = [name.split(".") for name in openapi_requests.FIELDS]
    names += [(m, f) for m, fields in openapi_requests.REQUIRED.items() for f in fields]
    for message, field in names:
        assert field in getattr(pb, message).DESCRIPTOR.fields_by_name


def dangling(value: Any, schemas: dict[str, Any]) -> Iterator[str]:
    """References to schemas that do not exist."""
    if isinstance(value, dict):
        name = str(value.get("$ref", "")).removeprefix("#/components/schemas/")
        if name and name not in schemas:
            yield name
        for item in value.values():
            yield from dangling(item, schemas)
    if isinstance(value, list):
        for item in value:
            yield from dangling(item, schemas)


@pytest.mark.asyncio(loop_scope="module")
async def test_openapi_schemas_allow_what_is_sent_and_nothing_else(
    shared_server: Serving,
) -> None:
    more = openapi_inference.PATHS, openapi_inference.SCHEMAS
    schemas = openapi.document(OPERATIONS, *more)["components"]["schemas"]
    post = shared_server.http.post
    plan = (await post("/v1/plan", json={"prompt": "a cat"})).json()
    tree = (await post("/v1/annotate", json={"drawing": LINES, "parser": "greedy"})).json()
    refused = (await post("/v1/plan", json={"promt": "a cat"})).json()
    for value, name in ((plan, "PlanResponse"), (tree, "AnnotateResponse"), (refused, "ErrorBody")):
        assert conforms(value, {"$ref": f"#/components/schemas/{name}"}, schemas)
    drawn = (await post("/v1/draw", json={"prompt": "a cat"})).text
    for line in drawn.splitlines():
        if line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            assert conforms(event, schemas["DrawEvent"], schemas), event
    assert not conforms({"promt": "a cat"}, schemas["PlanRequest"], schemas)
    assert schemas["AnnotateRequest"]["properties"]["parser"]["enum"][2] == "cky"


def conforms(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Whether a value fits a schema: the few keywords that the document uses."""
    if "$ref" in schema:
        return conforms(value, schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    if "oneOf" in schema:
        return sum(conforms(value, one, schemas) for one in schema["oneOf"]) == 1
    if "anyOf" in schema:
        return any(conforms(value, one, schemas) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    return TYPES[schema["type"]](value, schema, schemas)


def object_conforms(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    known, more = schema.get("properties", {}), schema["additionalProperties"]
    if not isinstance(value, dict) or not set(schema.get("required", ())) <= value.keys():
        return False
    pairs = [(item, known.get(name, more)) for name, item in value.items()]
    return all(fits is not False and conforms(item, fits, schemas) for item, fits in pairs)


def array_conforms(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    return isinstance(value, list) and all(conforms(v, schema["items"], schemas) for v in value)


TYPES = {
    "object": object_conforms,
    "array": array_conforms,
    "string": lambda value, *_: isinstance(value, str),
    "integer": lambda value, *_: isinstance(value, int),
    "number": lambda value, *_: isinstance(value, int | float),
    "boolean": lambda value, *_: isinstance(value, bool),
    "null": lambda value, *_: value is None,
}


async def test_pages_of_other_origins_may_call_where_a_setting_says_so(
    fakes: Fakes, new_server: NewServer
) -> None:
    mine, other = "https://app.example", "https://evil.example"
    async with new_server(fakes, settings_of(cors_origins=f"{mine}, http://b")) as server:
        for origin, allowed in ((mine, mine), (other, None)):
            asked = {"origin": origin, "access-control-request-method": "POST"}
            asked["access-control-request-headers"] = ",".join(HEEDED)
            before = await server.http.options("/v1/plan", headers=asked)
            assert before.is_success is bool(allowed)
            assert before.headers.get("access-control-allow-origin") == allowed
            reply = await server.http.get("/v1/subjects", headers={"origin": origin})
            assert reply.headers.get("access-control-allow-origin") == allowed
            assert "x-request-id" in reply.headers["access-control-expose-headers"]


@pytest.mark.asyncio(loop_scope="module")
async def test_by_default_only_our_own_page_calls(shared_server: Serving) -> None:
    reply = await shared_server.http.get("/v1/subjects", headers={"origin": "https://app.example"})
    assert "access-control-allow-origin" not in reply.headers
