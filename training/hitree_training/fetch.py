"""Download categories of the public Quick, Draw! data set: ``hitree-train fetch``.

Files are kept as published in ``quickdraw/``, checked against the server's size and MD5, and
resumed where a download broke off. From them ``drawings/`` is made, which `data.load` reads: the
recognised drawings, each with a split that follows from its ``key_id`` alone.

Source: https://github.com/googlecreativelab/quickdraw-dataset (CC BY 4.0).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from hitree import quickdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hitree.quickdraw import Record

URL = "https://storage.googleapis.com/quickdraw_dataset/full/simplified"
TIMEOUT = 30.0  # seconds without a byte


class FetchError(Exception):
    """A category could not be downloaded; what has arrived is kept, so try again."""


@dataclass(frozen=True)
class Remote:
    """What the server says of a file."""

    size: int  # bytes
    md5: str  # base64, as Google's storage sends it; empty where the server sends none


def fetch(
    categories: Sequence[str], out: Path, *, limit: int | None = None, url: str = URL
) -> list[Path]:
    """Download categories ("sea turtle") into ``out``; return the files in ``drawings/``.

    Complete files are not downloaded again. ``limit`` is how many drawings of each are kept.

    Raises:
        FetchError: the server has no such category, cannot be reached, or sent something else.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    )
    made = []
    with bar, httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for category in categories:
            name = f"{category.replace(' ', '_')}.ndjson"
            kept = out / "quickdraw" / name
            download(client, f"{url}/{quote(category)}.ndjson", kept, bar)
            made.append(out / "drawings" / name)
            made[-1].parent.mkdir(parents=True, exist_ok=True)
            quickdraw.write_ndjson(made[-1], islice(_with_splits(kept), limit))
    return made


def download(client: httpx.Client, url: str, path: Path, bar: Progress) -> None:
    """Bring ``path`` to what is at ``url``: skip, resume or begin.

    Raises:
        FetchError: see `fetch`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        remote = _head(client, url)
        task = bar.add_task(path.stem, total=remote.size)
        if path.is_file() and path.stat().st_size == remote.size:
            bar.update(task, completed=remote.size)
            return
        _receive(client, url, part, remote, lambda at: bar.update(task, completed=at))
    except httpx.HTTPError as exc:
        raise FetchError(f"{url}: {exc or type(exc).__name__}; try again, it resumes") from exc
    _check(part, remote, url)
    part.replace(path)


def _head(client: httpx.Client, url: str) -> Remote:
    reply = client.head(url)
    if reply.status_code == httpx.codes.NOT_FOUND:
        raise FetchError(f"there is no category at {url}; names are those of the data set")
    reply.raise_for_status()
    hashes = reply.headers.get_list("x-goog-hash", split_commas=True)
    md5 = next((h.strip()[4:] for h in hashes if h.strip().startswith("md5=")), "")
    return Remote(int(reply.headers["content-length"]), md5)


def _receive(
    client: httpx.Client, url: str, part: Path, remote: Remote, show: Callable[[int], None]
) -> None:
    at = part.stat().st_size if part.is_file() else 0
    if at >= remote.size:
        return
    headers = {"range": f"bytes={at}-"} if at else {}
    headers["accept-encoding"] = "identity"  # so that bytes here are bytes there
    with client.stream("GET", url, headers=headers) as reply:
        reply.raise_for_status()
        if reply.status_code != httpx.codes.PARTIAL_CONTENT:
            at = 0  # the server began anew
        with part.open("ab" if at else "wb") as file:
            for chunk in reply.iter_raw():
                file.write(chunk)
                at += len(chunk)
                show(at)


def _check(part: Path, remote: Remote, url: str) -> None:
    size = part.stat().st_size
    digest = hashlib.md5(part.read_bytes(), usedforsecurity=False).digest()
    wrong = bool(remote.md5) and base64.b64encode(digest).decode() != remote.md5
    if size < remote.size:
        raise FetchError(f"{url}: got {size} of {remote.size} bytes; try again, it resumes")
    if size > remote.size or wrong:
        part.unlink()  # cannot be resumed
        raise FetchError(f"{url}: what arrived is damaged and was removed; try again")


def _with_splits(path: Path) -> Iterator[Record]:
    for record in quickdraw.read_simplified(path):
        if record.recognized:
            yield replace(record, split=split_of(record.key_id))


def split_of(key_id: str) -> str:
    """Eight in ten drawings train, one each are valid and test, by a checksum of the key."""
    bucket = zlib.crc32(key_id.encode()) % 10
    return {8: "valid", 9: "test"}.get(bucket, "train")
