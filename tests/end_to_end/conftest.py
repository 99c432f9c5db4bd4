"""A service of its own process, and a browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hitree_sdk
from end_to_end.processes import Served, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

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
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        ports = [door.getsockname()[1] for door in (a, b)]
    command = [str(Path(sys.executable).with_name("hitree")), "serve"]
    options = [f"--port={ports[0]}", f"--http-port={ports[1]}"]
    with subprocess.Popen([*command, *options], env=clean_environment()) as process:
        at = Served(f"grpc://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
        try:
            with hitree_sdk.Client(at.grpc, retries=10) as client:
                client.model_info()  # tried again until the service is ready
            yield at
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.fixture(scope="session")
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
