"""What tests of whole processes share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hitree_sdk
from hitree.tree import Node, Plan, build

PARTS = ("a head", "two ears", "a body", "four legs", "a tail", "two eyes", "a nose", "whiskers")


@dataclass(frozen=True)
class Served:
    """Where a running service answers."""

    grpc: str  # "grpc://127.0.0.1:…"
    http: str  # "http://127.0.0.1:…"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of ours, which tests must not inherit."""
    ours = {name for name in os.environ if name.startswith("HITREE_")}
    return {name: value for name, value in os.environ.items() if name not in ours} | more


def free_ports() -> Served:
    """Addresses for a service that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        rpc, web = (door.getsockname()[1] for door in (a, b))
    return Served(f"grpc://127.0.0.1:{rpc}", f"http://127.0.0.1:{web}")


def serve(at: Served) -> subprocess.Popen[bytes]:
    """Start `hitree serve` there."""
    command = [str(Path(sys.executable).with_name("hitree")), "serve"]
    rpc, web = (address.rpartition(":")[2] for address in (at.grpc, at.http))
    options = [f"--port={rpc}", f"--http-port={web}"]
    return subprocess.Popen([*command, *options], env=clean_environment())


def wait_until_ready(at: Served) -> None:
    """Return once the service answers."""
    with hitree_sdk.Client(at.grpc, retries=10) as client:
        client.model_info()  # tried again until the service is ready


def long_plan() -> Plan:
    """More leaves than some hundred points can draw, so that a drawing has all its points."""
    texts = [f"add {PARTS[index % len(PARTS)]}" for index in range(60)]
    root = Node(0, None, "draw a cat")
    leaves = [Node(index, 0, text) for index, text in enumerate(texts, 1)]
    return Plan(build([root, *leaves]), subject="cat")
