"""Requests as they come: timeouts that cannot be read, bodies that do not come, GET's twin HEAD."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from fakes import settle
from hitree.limits import LIMITS
from hitree_server import incoming
from server.conftest import settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from server.conftest import Fakes, Serving

    NewServer = Callable[..., AbstractAsyncContextManager[Serving]]

PATHS = ("/v1/plan", "/v1/draw", "/v2/models/doubling/infer")


@contextlib.asynccontextmanager
async def half_sent(server: Serving, path: str, *headers: str) -> AsyncIterator[Any]:
    """A reader of what is answered to a request of which the half is sent, to its end."""
    reader, client = await asyncio.open_connection("127.0.0.1", server.http_port)
    head = "\r\n".join([f"POST {path} HTTP/1.1", "host: x", "content-length: 50", *headers])
    client.write(f"{head}\r\n\r\n{{".encode())
    await client.drain()
    try:
        async with asyncio.timeout(20):
            yield reader
    finally:
        client.close()


def refusal(answer: bytes) -> tuple[bytes, bytes]:
    """Status line and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: " in head
    return head.splitlines()[0], body


def counted(server: Serving, method: str, code: str) -> float | None:
    labels = {"door": "http", "method": method, "code": code}
    return server.app.metrics.registry.get_sample_value("hitree_calls_total", labels)


async def test_an_unreadable_timeout_is_refused_as_any_call_is(server: Serving) -> None:
    headers = {"x-hitree-timeout-ms": "soon", "x-request-id": "mine-3"}
    for path, content in (("/v1/plan", "{"), ("/v1/draw", "{"), (PATHS[2], "{")):
        reply = await server.http.post(path, content=content, headers=headers)
        assert (reply.status_code, reply.headers["x-request-id"]) == (400, "mine-3")
        assert "soon" in reply.text
    for method in ("Plan", "Draw", "ModelInfer"):
        assert counted(server, method, "INVALID_INPUT") == 1


async def test_the_key_is_asked_for_before_a_header_is_refused(
    fakes: Fakes, tmp_path: Path, new_server: NewServer
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada 0123456789abcdef\n")
    async with new_server(fakes, settings_of(api_keys_file=keys)) as server:
        headers = {"x-hitree-timeout-ms": "soon"}
        assert (await server.http.get("/v1/model", headers=headers)).status_code == 401
        headers["authorization"] = "Bearer 0123456789abcdef"
        assert (await server.http.get("/v1/model", headers=headers)).status_code == 400


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_has_the_time_that_the_call_has(server: Serving, path: str) -> None:
    async with half_sent(server, path, "x-hitree-timeout-ms: 50") as reader:
        status, body = refusal(await reader.read())  # to the end: the connection is closed
    assert status.startswith(b"HTTP/1.1 504")
    assert "not whole within" in str(json.loads(body)["error"])


async def test_a_body_has_a_limit_of_its_own(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "BODY_SECONDS", 0.05)
    for headers in ((), ("x-hitree-timeout-ms: 999999999",)):
        async with half_sent(server, "/v1/plan", *headers) as reader:
            status, body = refusal(await reader.read())
        assert status.startswith(b"HTTP/1.1 504")
        assert json.loads(body)["error"]["reason"] == "DEADLINE_EXCEEDED"
    assert counted(server, "Plan", "DEADLINE_EXCEEDED") == 2


async def test_too_long_a_body_ends_its_connection(server: Serving) -> None:
    reply = await server.http.post("/v1/plan", content=b" " * (LIMITS.message_bytes + 1))
    assert (reply.status_code, reply.headers["connection"]) == (400, "close")
    reply = await server.http.post("/v1/plan", content=b"{")
    assert "connection" not in reply.headers


async def test_stopping_refuses_what_has_not_arrived(
    fakes: Fakes, new_server: NewServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with new_server(fakes, settings_of()) as server:
        async with half_sent(server, "/v1/plan") as reader:
            while not server.app.service._arrivals:
                await settle()
            server.app.stopping.set()
            status, body = refusal(await reader.read())
        await server.task
    assert status.startswith(b"HTTP/1.1 503")
    assert json.loads(body)["error"]["reason"] == "UNAVAILABLE"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["/v1/model", "/v1/subjects", "/v1/subjects?bundle.name=no"])
async def test_head_is_get_without_a_body(server: Serving, path: str) -> None:
    head, whole = await server.http.head(path), await server.http.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
