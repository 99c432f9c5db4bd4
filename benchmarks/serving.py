"""A service of its own process on a core of its own, for benchmarks; and what can be read off it.

Linux only: cores are pinned, and memory is read from ``/proc``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

BUNDLE = Path(__file__).parents[1] / "bundle/hitree_bundle"
SERVE = (str(Path(sys.executable).with_name("hitree")), "serve")
START_SECONDS = 120.0  # that loading the bundle may take
IDLE = ("hitree_requests_running", "hitree_requests_waiting", "hitree_requests_paused")


class Reading:
    """The metrics page at one moment."""

    def __init__(self, page: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(page) for sample in family.samples
        ]

    def __getitem__(self, name: str) -> float:
        """A metric, summed over its labels; 0 where nothing was counted."""
        return sum(sample.value for sample in self._samples if sample.name == name)

    def by(self, name: str, label: str) -> dict[str, float]:
        """A metric by one of its labels, summed over the others."""
        found: dict[str, float] = {}
        for sample in self._samples:
            if sample.name == name:
                key = sample.labels[label]
                found[key] = found.get(key, 0.0) + sample.value
        return found

    @property
    def held(self) -> dict[str, int]:
        """Sequences in slots, in the queue, and paused."""
        return {name.rpartition("_")[2]: int(self[name]) for name in IDLE}


@dataclass
class Server:
    """A running service."""

    process: subprocess.Popen[bytes]
    address: str  # host and port of the gRPC door
    http: str  # URL of the HTTP door
    log: IO[bytes] = field(repr=False)

    def read(self) -> Reading:
        """The metrics as they are now."""
        return Reading(httpx.get(f"{self.http}/metrics", timeout=30).text)

    def until_idle(self, seconds: float = 30.0) -> Reading:
        """Wait until no drawing is held, for ``seconds`` at most; returns the last reading."""
        until = time.monotonic() + seconds
        while any((now := self.read()).held.values()) and time.monotonic() < until:
            time.sleep(0.05)
        return now

    def memory(self) -> int:
        """Resident bytes of the process and its children."""
        return sum(_resident(pid) for pid in _tree(self.process.pid))

    def worked(self) -> float:
        """Seconds of its core that the process has used."""
        return used(self.process.pid)

    def logged(self) -> str:
        """What it has written to its log."""
        return Path(self.log.name).read_text(errors="replace")


def used(pid: int) -> float:
    """Seconds of cores that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every benchmark of a service asks for."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="folder of the bundle")
    parser.add_argument(
        "--cores", type=int, nargs=2, default=[0, 1], metavar=("SERVER", "CLIENT"), help="to pin to"
    )
    parser.add_argument("--json", type=Path, help="file for all that was measured")


@contextmanager
def serving(
    bundle: Path, core: int, command: Sequence[str] = SERVE, **settings: object
) -> Iterator[Server]:
    """A service on ``core`` with ``settings`` (``max_rows=1``), ready; killed in the end."""
    with tempfile.NamedTemporaryFile(prefix="hitree-serve-") as log:
        server = _start(bundle, core, command, log, **settings)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            server.process.kill()
            server.process.wait()


def _start(
    bundle: Path, core: int, command: Sequence[str], log: IO[bytes], **settings: object
) -> Server:
    rpc, web = _free_ports()
    given = {"bundle": bundle, "grpc_port": rpc, "http_port": web, **settings}
    ours = {f"HITREE_{name.upper()}": str(value) for name, value in given.items()}
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("HITREE_")}
    process = subprocess.Popen(
        command, env=inherited | ours, stdout=log, stderr=log, start_new_session=True
    )
    os.sched_setaffinity(process.pid, {core})  # before it has threads, which inherit it
    return Server(process, f"127.0.0.1:{rpc}", f"http://127.0.0.1:{web}", log)


def _wait_until_ready(server: Server) -> None:
    """Return once the health service says SERVING.

    Raises:
        RuntimeError: the process ended, or took too long; with what it logged.
    """
    until = time.monotonic() + START_SECONDS
    while server.process.poll() is None and time.monotonic() < until:
        if _health(server.address) == health_pb2.HealthCheckResponse.SERVING:
            return
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start:\n{server.logged()}")


def _health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest()
            return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status)
        except grpc.RpcError:
            return health_pb2.HealthCheckResponse.UNKNOWN


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        return a.getsockname()[1], b.getsockname()[1]


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = [root]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
