"""Argument over environment over default; what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import hitree_sdk
from hitree.errors import InvalidInput, MissingPackage
from hitree_sdk import _transport
from hitree_sdk._config import Config, resolve
from hitree_sdk._grpc import AsyncGrpcTransport, GrpcTransport
from hitree_sdk._http import AsyncHttpTransport, HttpTransport

if TYPE_CHECKING:
    from pathlib import Path

    from sdk.fakes import AsyncTwin, SyncTwin


def test_defaults() -> None:
    assert resolve(environ={}) == Config("embedded", "", 60.0, 2)
    empty = {"HITREE_URL": "", "HITREE_API_KEY": "", "HITREE_TIMEOUT": ""}
    assert resolve(environ=empty) == resolve(environ={})


def test_the_environment_wins_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITREE_URL", "grpcs://draw.example:443")
    monkeypatch.setenv("HITREE_API_KEY", "k")
    monkeypatch.setenv("HITREE_TIMEOUT", "1.5")
    assert resolve() == Config("grpcs", "draw.example:443", 1.5, 2, "k")


def test_arguments_win_over_the_environment() -> None:
    env = {"HITREE_URL": "grpc://a", "HITREE_API_KEY": "k", "HITREE_TIMEOUT": "1"}
    config = resolve("http://b:3000/", api_key="l", timeout=2, retries=0, environ=env)
    assert config == Config("http", "http://b:3000", 2.0, 0, "l")
    assert resolve("embedded", environ=env).scheme == "embedded"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("grpc://localhost", "localhost:50051"),
        ("grpc://[::1]:9", "[::1]:9"),
        ("grpcs://a.example/", "a.example:50051"),
        ("https://a.example/sketches/", "https://a.example/sketches"),
    ],
)
def test_addresses(url: str, address: str) -> None:
    assert resolve(url, environ={}).address == address


@pytest.mark.parametrize(
    "options",
    [
        {"url": "localhost:50051"},
        {"url": "ftp://a"},
        {"url": "embedded://a"},
        {"url": "grpc://"},
        {"url": "grpc://a:port"},
        {"url": "grpc://a/path"},
        {"timeout": 0},
        {"timeout": True},
        {"timeout": float("inf")},
        {"retries": -1},
        {"retries": 2.5},
        {"ca_file": "ca.pem"},
        {"url": "grpcs://a", "ca_file": "/nowhere/ca.pem"},
        {"cert_file": "own.pem"},
        {"url": "grpcs://a", "cert_file": "/nowhere/own.pem"},
        {"bundle": ""},
        {"bundle": "@"},
        {"bundle": 1},
        {"bundle": "x" * 501},
        {"api_key": "schlüssel"},
        {"api_key": "key\n"},
        {"api_key": "\udcff"},
        {"api_key": b"key"},
        {"environ": {"HITREE_API_KEY": "key\r"}},
        {"environ": {"HITREE_TIMEOUT": "soon"}},
        {"environ": {"HITREE_TIMEOUT": "-1"}},
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        resolve(**{"environ": {}, **options})


def test_a_wrong_key_is_named_and_not_told() -> None:
    with pytest.raises(InvalidInput, match="api_key is no text") as raised:
        resolve(api_key="secret\n", environ={})
    assert "secret" not in raised.value.message


def test_a_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(InvalidInput, match="no PEM file"):
        resolve("https://a", ca_file=path, environ={})


def test_the_scheme_chooses_the_transport() -> None:
    for url, blocking, waiting in [
        ("grpc://a", GrpcTransport, AsyncGrpcTransport),
        ("grpcs://a", GrpcTransport, AsyncGrpcTransport),
        ("http://a", HttpTransport, AsyncHttpTransport),
        ("https://a", HttpTransport, AsyncHttpTransport),
    ]:
        config = resolve(url, environ={})
        with hitree_sdk.Client(url):
            pass
        transport = _transport.connect(config)
        transport.close()
        assert type(transport) is blocking
        assert type(_transport.connect_async(config)) is waiting


class Entry:
    """An entry point of an installed distribution."""

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


class Engine:
    sync = "the blocking face"
    aio = "the waiting face"


def test_without_a_url_the_embedded_engine_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def entry_points(**selection: str) -> list[Entry]:
        asked.append(selection)
        return [Entry(Engine)]

    monkeypatch.setattr(_transport, "entry_points", entry_points)
    assert _transport.connect(resolve(environ={})) == "the blocking face"
    assert _transport.connect_async(resolve(environ={})) == "the waiting face"
    assert asked == [{"group": "hitree.transport", "name": "embedded"}] * 2


@pytest.mark.parametrize("entries", [[], [Entry(ImportError("No module named 'onnxruntime'"))]])
def test_a_missing_engine_names_what_to_install(
    twin: SyncTwin | AsyncTwin, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "entry_points", lambda **_: entries)
    with pytest.raises(MissingPackage, match=r"pip install 'hitree\[server\]'"):
        twin.connect("embedded")
