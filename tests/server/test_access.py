"""API keys: who may call, over both doors, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from hitree.errors import InvalidInput, Overloaded, Unauthenticated
from hitree.v1 import hitree_pb2 as pb
from hitree_server.access import Access, read
from hitree_server.metrics import Metrics
from hitree_server.service import Service
from hitree_server.settings import Settings
from server.conftest import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from server.conftest import Fakes, Serving

    NewServer = Callable[..., AbstractAsyncContextManager[Serving]]

ADA, BOB = "ada-0123456789abcdef", "bob-0123456789abcdef"
KEYS = f"# who calls\n\nada {ADA}\nbob {BOB}\n"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(KEYS)
    return path


def bearer(key: str) -> str:
    return f"Bearer {key}"


def test_without_a_file_anybody_may_call() -> None:
    with Access(None).admitted("") as name:
        assert name == ""


def test_a_key_names_its_caller(key_file: Path) -> None:
    access = Access(read(key_file))
    with access.admitted(bearer(BOB)) as name:
        assert name == "bob"
    with access.admitted(f"bearer  {ADA} ") as name:
        assert name == "ada"


@pytest.mark.parametrize("sent", ["", "Bearer ", f"Basic {ADA}", ADA, bearer(ADA[:-1])])
def test_no_key_and_wrong_keys_are_refused_without_showing_any(key_file: Path, sent: str) -> None:
    with (
        pytest.raises(Unauthenticated, match="HITREE_API_KEY") as caught,
        Access(read(key_file)).admitted(sent),
    ):
        pytest.fail("it was admitted")
    assert ADA[:-1] not in caught.value.message


def test_calls_at_a_time_are_limited_for_each_key() -> None:
    access = Access({"ada": ADA, "bob": BOB}, calls=2)
    with access.admitted(bearer(ADA)), access.admitted(bearer(ADA)):
        with (
            pytest.raises(Overloaded, match="ada has 2 calls running") as caught,
            access.admitted(bearer(ADA)),
        ):
            pytest.fail("it was admitted")
        assert caught.value.retry_after
        with access.admitted(bearer(BOB)):
            pass
    with access.admitted(bearer(ADA)):
        pass


def test_calls_a_second_are_limited_for_each_key() -> None:
    now = 0.0
    access = Access({"ada": ADA, "bob": BOB}, rate=4, clock=lambda: now)

    def admitted(key: str, times: int) -> int:
        for done in range(times):
            try:
                with access.admitted(bearer(key)):
                    pass
            except Overloaded as exc:
                hints.append(exc.retry_after)
                return done
        return times

    hints: list[float | None] = []
    assert admitted(ADA, 9) == 4  # a second's worth at once
    assert hints == [0.25]
    assert admitted(BOB, 9) == 4
    now = 0.5
    assert admitted(ADA, 9) == 2
    now = 60.0
    assert admitted(ADA, 9) == 4  # what is not used is not saved up


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ada short", "line 1 of .* is not a name of its own"),
        (f"ada {ADA}\nada {BOB}", "line 2 of"),
        (ADA, "line 1 of"),
        ("# nobody\n", "holds none"),
        ("\ud800", "cannot be read"),
    ],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidInput, match=message) as caught:
        Service(Settings(api_keys_file=path), Metrics())
    assert ADA not in caught.value.message


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        Service(Settings(api_keys_file=tmp_path / "none"), Metrics())


async def test_both_doors_ask_for_the_key(
    fakes: Fakes, key_file: Path, new_server: NewServer
) -> None:
    async with new_server(fakes, settings_of(api_keys_file=key_file, key_calls=1)) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.rpc.Subjects(pb.SubjectsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        refused = await server.http.get("/v1/subjects")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["reason"] == "UNAUTHENTICATED"

        known: dict[str, Any] = {"metadata": (("authorization", bearer(ADA)),)}
        assert (await server.rpc.Subjects(pb.SubjectsRequest(), **known)).subjects
        headers = {"authorization": bearer(ADA)}
        assert (await server.http.get("/v1/subjects", headers=headers)).status_code == 200

        # A drawing holds its share until it ends, whichever door it came through.
        fakes.device.hold(after=3)
        drawing = server.rpc.Draw(pb.DrawRequest(prompt="draw a cat"), **known)
        events = aiter(drawing)
        await anext(events)
        full = await server.http.post("/v1/draw", json={"prompt": "draw a cat"}, headers=headers)
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        fakes.device.gate.set()
        assert [event async for event in events]
        assert (await server.http.get("/v1/subjects", headers=headers)).status_code == 200


async def test_probes_need_no_key(fakes: Fakes, key_file: Path, new_server: NewServer) -> None:
    async with new_server(fakes, settings_of(api_keys_file=key_file)) as server:
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert (await server.http.get(path)).status_code == 200
