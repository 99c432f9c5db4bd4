"""The load: many closed-loop streams from one process, the same for every server.

    python benchmarks/peers/client.py KIND PORT FILE [--streams 64] [--seconds 10] [--warmup 3]

Each stream asks for a drawing, reads it to its end and asks for the next one. The points of every
drawing are checked. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asked import Asked, checksum

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    # From the index of a request to its messages, each a flat list of points, four numbers a point
    Draw = Callable[[int], AsyncIterator[list[int]]]

READY_SECONDS = 120  # for a server to draw its first drawing
HOST = "127.0.0.1"


class WrongPointsError(Exception):
    """A drawing is not the one that was asked for."""


@asynccontextmanager
async def hitree(port: int, asked: Asked) -> AsyncIterator[Draw]:
    import grpc

    from hitree.v1 import hitree_pb2 as pb

    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        call = channel.unary_stream(
            "/hitree.v1.HiTree/Draw", response_deserializer=pb.DrawEvent.FromString
        )

        async def draw(index: int) -> AsyncIterator[list[int]]:
            async for message in call(asked.wire[index]):
                yield [
                    number
                    for event in message.group.events or (message,)
                    for x, y in zip(event.points.xs, event.points.ys, strict=True)
                    for number in (x, y, event.points.stroke, event.points.node)
                ]

        yield draw


@asynccontextmanager
async def http(port: int, asked: Asked, path: str) -> AsyncIterator[Draw]:
    import aiohttp

    url = f"http://{HOST}:{port}{path}"
    connector, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout()
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:

        async def draw(index: int) -> AsyncIterator[list[int]]:
            async with session.post(url, json=asked.peers[index]) as response:
                response.raise_for_status()
                async for line in response.content:
                    yield json.loads(line)

        yield draw


@asynccontextmanager
async def triton(port: int, asked: Asked, shape: list[int]) -> AsyncIterator[Draw]:
    import numpy as np
    import tritonclient.grpc.aio as grpcclient

    async with grpcclient.InferenceServerClient(f"{HOST}:{port}") as client:

        async def requests(index: int) -> AsyncIterator[dict[str, Any]]:
            tensor = grpcclient.InferInput("request", shape, "BYTES")
            request = np.array([json.dumps(asked.peers[index])], np.object_)
            tensor.set_data_from_numpy(request.reshape(shape))
            yield {"model_name": "sketcher", "inputs": [tensor]}

        async def draw(index: int) -> AsyncIterator[list[int]]:
            async for result, error in client.stream_infer(requests(index)):
                if error is not None:
                    raise error
                made = result.as_numpy("points").ravel().tolist()
                yield made if made[-1] >= 0 else []  # no node: no points

        yield draw


@dataclass
class Record:
    """What came while ``open``."""

    open: bool = False
    points: int = 0
    messages: int = 0
    drawings: int = 0
    first: list[float] = field(default_factory=list)  # seconds to the first points of drawings
    errors: list[str] = field(default_factory=list)


async def stream(draw: Draw, asked: Asked, turns: count[int], record: Record) -> None:
    """Ask for drawings for ever."""
    while True:
        try:
            await _one(draw, asked, next(turns) % len(asked.sums), record)
        except Exception as exc:  # a server may fail in any way, and is measured all the same
            record.errors.append(f"{type(exc).__name__}: {exc}")
            await asyncio.sleep(0.1)


async def _one(draw: Draw, asked: Asked, index: int, record: Record) -> None:
    began, points = time.perf_counter(), list[int]()
    async for made in draw(index):
        if record.open:
            if made and not points:
                record.first.append(time.perf_counter() - began)
            record.points += len(made) // 4
            record.messages += bool(made)
        points += made
    if checksum(points) != asked.sums[index]:
        raise WrongPointsError(f"{len(points) // 4} points, not these {asked.points[index]}")
    record.drawings += record.open


async def until_ready(draw: Draw, asked: Asked) -> None:
    """Return once a drawing came."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            async with asyncio.timeout(READY_SECONDS):
                return await _one(draw, asked, 0, Record())
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def measure(args: argparse.Namespace, asked: Asked, draw: Draw) -> dict[str, Any]:
    await until_ready(draw, asked)
    record, turns = Record(), count()
    readers = (stream(draw, asked, turns, record) for _ in range(args.streams))
    streams = [asyncio.create_task(reader) for reader in readers]
    await asyncio.sleep(args.warmup)
    began, busy, served = time.perf_counter(), time.process_time(), family_seconds()
    record.open = True
    await asyncio.sleep(args.seconds)
    record.open = False
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    served = family_seconds() - served
    for task in streams:
        task.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    first = sorted(record.first)
    return {
        "points_per_second": record.points / seconds,
        "drawings_per_second": record.drawings / seconds,
        "points_per_message": record.points / max(1, record.messages),
        "first_p50": first[len(first) // 2] if first else None,
        "first_p99": first[len(first) * 99 // 100] if first else None,
        "points_per_cpu_second": record.points / served if served else None,
        "server_busy": served / seconds,
        "client_busy": busy / seconds,
        "errors": len(record.errors),
        "error": record.errors[0] if record.errors else "",
    }


def family_seconds() -> float:
    """CPU time of all that the parent of this process started besides it: server and daemons."""
    ticks, families = dict[int, int](), dict[int, list[int]]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
            families.setdefault(int(rest[1]), []).append(pid)
            ticks[pid] = int(rest[11]) + int(rest[12])
    found = [pid for pid in families.get(os.getppid(), []) if pid != os.getpid()]
    for pid in found:
        found += families.get(pid, [])
    return sum(ticks[pid] for pid in found) / os.sysconf("SC_CLK_TCK")


async def run(args: argparse.Namespace) -> dict[str, Any]:
    asked = Asked.load(args.file)
    async with _door(args.kind, args.port, asked) as draw:
        return await measure(args, asked, draw)


def _door(kind: str, port: int, asked: Asked) -> AbstractAsyncContextManager[Draw]:
    if kind == "hitree":
        return hitree(port, asked)
    if kind.startswith("triton"):
        return triton(port, asked, [1, 1] if kind == "triton-drawings" else [1])
    return http(port, asked, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", help="hitree, triton-steps, triton-drawings, or a path for HTTP")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path, help="made by prepare.py")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=float, default=3.0)
    sys.stdout.write(json.dumps(asyncio.run(run(parser.parse_args()))) + "\n")


if __name__ == "__main__":
    main()
