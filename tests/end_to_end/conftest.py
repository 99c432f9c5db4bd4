"""Services in a process and in a thread of their own, and a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from end_to_end.processes import free_ports, serve, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from end_to_end.processes import Served
    from end_to_end.threads import Inside

BROWSER = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """`hitree serve` on free ports, ready; it must stop cleanly in the end."""
    at = free_ports()
    with serve(at) as process:
        try:
            wait_until_ready(at)
            yield at
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.fixture(scope="session")
def tiny() -> Iterator[Inside]:
    """The tiny bundle, served in this process by both doors."""
    from end_to_end.threads import inside  # brings torch, which makes the bundle

    with inside() as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; `PLAYWRIGHT_CHROMIUM` names another one."""
    from playwright.sync_api import sync_playwright  # only the full tier needs it

    path = os.environ.get("PLAYWRIGHT_CHROMIUM", "/usr/bin/chromium")
    if not Path(path).exists():
        pytest.skip(f"no browser at {path}: install chromium or set PLAYWRIGHT_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER))
        yield browser
        browser.close()
