"""Downloads from a local server: whole, skipped, resumed, damaged, missing."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote

import pytest

from hitree import quickdraw
from hitree_training import data
from hitree_training.fetch import FetchError, fetch, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lines(count: int) -> bytes:
    rows = [
        {
            "key_id": str(1000 + k),
            "word": "sea turtle",
            "recognized": k % 4 != 0,
            "countrycode": "NZ",
            "timestamp": "2017-03-01 00:00:00 UTC",
            "drawing": [[[0, k, 255], [0, 9, 40]], [[5, 9], [9, 5]]],
        }
        for k in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@dataclass
class Storage:
    """What a server holds and how it behaves."""

    files: dict[str, bytes]
    url: str = ""
    md5: bool = True
    cut: int | None = None  # bytes after which the connection breaks
    damage: bool = False  # sends other bytes than it promised
    ranges: list[str | None] = field(default_factory=list)  # of every GET


class Handler(BaseHTTPRequestHandler):
    """A storage bucket."""

    storage: ClassVar[Storage]

    def body(self) -> bytes | None:
        return self.storage.files.get(unquote(self.path).lstrip("/"))

    def do_HEAD(self) -> None:
        found = self.body()
        self.send_response(404 if found is None else 200)
        if found is not None:
            digest = base64.b64encode(hashlib.md5(found).digest()).decode()
            self.send_header("Content-Length", str(len(found)))
            if self.storage.md5:
                self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={digest}")
        self.end_headers()

    def do_GET(self) -> None:
        found = self.body() or b""
        asked = self.headers.get("range")
        self.storage.ranges.append(asked)
        at = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = found[at:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.storage.damage:
            rest = b"x" * len(rest)
        self.wfile.write(rest[: self.storage.cut])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def storage() -> Iterator[Storage]:
    made = Storage({"sea turtle.ndjson": lines(200), "ant.ndjson": lines(8)})
    handler = type("Bound", (Handler,), {"storage": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_category_becomes_a_file_that_trains(storage: Storage, tmp_path: Path) -> None:
    (path,) = fetch(["sea turtle"], tmp_path, url=storage.url)
    assert path == tmp_path / "drawings" / "sea_turtle.ndjson"
    records = list(quickdraw.read_simplified(path))
    assert len(records) == 150  # those that were recognised
    assert {record.split for record in records} == {"train", "valid", "test"}
    examples = data.load(tmp_path, kinds=("real",))
    assert {example.subject for example in examples} == {"sea turtle"}


def test_what_is_complete_is_not_downloaded_again(storage: Storage, tmp_path: Path) -> None:
    fetch(["sea turtle", "ant"], tmp_path, url=storage.url)
    fetch(["sea turtle", "ant"], tmp_path, url=storage.url, limit=3)
    assert len(storage.ranges) == 2
    assert len((tmp_path / "drawings" / "ant.ndjson").read_text().splitlines()) == 3


def test_a_broken_download_is_resumed(storage: Storage, tmp_path: Path) -> None:
    storage.cut = 1000
    with pytest.raises(FetchError, match="try again, it resumes"):
        fetch(["sea turtle"], tmp_path, url=storage.url)
    assert (tmp_path / "quickdraw" / "sea_turtle.ndjson.part").stat().st_size == 1000
    assert not (tmp_path / "drawings" / "sea_turtle.ndjson").exists()
    storage.cut = None
    fetch(["sea turtle"], tmp_path, url=storage.url)
    assert storage.ranges == [None, "bytes=1000-"]
    kept = tmp_path / "quickdraw" / "sea_turtle.ndjson"
    assert kept.read_bytes() == storage.files["sea turtle.ndjson"]


def test_damage_is_found_and_removed(storage: Storage, tmp_path: Path) -> None:
    storage.damage = True
    with pytest.raises(FetchError, match="damaged"):
        fetch(["ant"], tmp_path, url=storage.url)
    assert not list((tmp_path / "quickdraw").iterdir())


def test_the_size_is_checked_where_there_is_no_hash(storage: Storage, tmp_path: Path) -> None:
    storage.md5 = False
    (path,) = fetch(["ant"], tmp_path, url=storage.url)
    assert path.exists()


def test_an_unknown_category_is_an_error(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no category"):
        fetch(["unicorn"], tmp_path, url=storage.url)


def test_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="try again"):
        fetch(["ant"], tmp_path, url="http://127.0.0.1:9")


def test_splits_follow_from_the_key_alone() -> None:
    splits = [split_of(str(k)) for k in range(2000)]
    assert splits == [split_of(str(k)) for k in range(2000)]
    assert 1500 < splits.count("train") < 1700
    assert 150 < splits.count("valid") < 250
