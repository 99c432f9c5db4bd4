"""Starts a server on one core, and stops it with all that it started."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, see prctl(2)
GRACE_SECONDS = 15.0  # between asking to stop and killing


class Server:
    """A program, its output in a file; this process may have no other children meanwhile."""

    def __init__(
        self, command: list[str], core: int, log: Path, environment: Mapping[str, str]
    ) -> None:
        _adopt_orphans()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                pinned(command, core),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        # What is left: itself, if it is deaf, and daemons, which its end made children of ours.
        _end_children(signal.SIGTERM, GRACE_SECONDS)
        _end_children(signal.SIGKILL, GRACE_SECONDS)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None


def pinned(command: list[str], core: int) -> list[str]:
    """A command that runs another, and all that it starts, on one core."""
    return ["taskset", "-c", str(core), *command]


def free_ports(count: int = 2) -> int:
    """The first of adjacent ports that nobody listens at."""
    for first in range(21000, 32000, 10):
        if all(_free(port) for port in range(first, first + count)):
            return first
    raise OSError("no ports are free")


def _free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _adopt_orphans() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _end_children(sign: signal.Signals, seconds: float) -> None:
    """Signal every child, those too that become children by that, until none is left."""
    deadline, told = time.monotonic() + seconds, set[int]()
    while time.monotonic() < deadline and (children := _children()):
        for child in children - told:
            with suppress(ProcessLookupError):
                os.kill(child, sign)
        told |= children
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def _children() -> set[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(child) for child in listed.split()}
