"""What plans and annotations cost, alone and many at a time; and what their graphs cost a row.

    python benchmarks/models.py [--clients 1 4 16] [--rounds 3] [--set model_workers=8]

Each of N clients asks for a plan (or an annotation) over gRPC and then for the next. The service
has a core of its own, and the clients have another one. The second table calls the graphs whose
rows could be of several requests, with more and more rows, on the service's core while it is idle:
a row that costs as much among many as among few gains nothing where calls are joined.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING, Any  # Any: onnxruntime has no types

import grpc
import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no stubs
from asking import PROMPTS, head, percentile, row, write_plans
from overload import settings
from serving import add_arguments, serving
from streams import pinned, spread

from hitree import bundle as bundles
from hitree.v1 import hitree_pb2 as pb
from hitree.v1.hitree_pb2_grpc import HiTreeStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray
    from serving import Server

    from hitree.bundle import Bundle

    Ask = Callable[[HiTreeStub], Awaitable[object]]

ROWS = (1, 4, 16, 24, 64, 128, 256)  # of a call; a node of a plan has 24
SIZES = {"levels": 4, "tokens": 7}  # of the axes beside the rows


@dataclass(frozen=True)
class Round:
    """What a number of clients saw in some seconds."""

    clients: int
    rate: float  # calls a second
    times: tuple[float, ...]  # seconds of each call
    cost: float  # seconds of the service's core for a call


async def closed(server: Server, ask: Ask, clients: int, seconds: float) -> Round:
    """Have ``clients`` make one call after another."""
    times: list[float] = []

    async def keep_asking(stub: HiTreeStub) -> None:
        while (begun := time.perf_counter()) < until:
            await ask(stub)
            times.append(time.perf_counter() - begun)

    async with grpc.aio.insecure_channel(server.address) as channel:
        worked, begun = server.worked(), time.perf_counter()
        until = begun + seconds
        await asyncio.gather(*(keep_asking(HiTreeStub(channel)) for _ in range(clients)))
        spent, worked = time.perf_counter() - begun, server.worked() - worked
    return Round(clients, len(times) / spent, tuple(times), worked / len(times))


def asks(server: Server) -> dict[str, Ask]:
    """The calls by name; no two plans are the same, drawings to annotate take turns."""
    prompts, seeds, drawings = cycle(PROMPTS), count(1), cycle(draw(server))
    return {
        "Plan": lambda stub: stub.Plan(pb.PlanRequest(prompt=next(prompts), seed=next(seeds))),
        "Annotate": lambda stub: stub.Annotate(pb.AnnotateRequest(drawing=next(drawings))),
    }


def draw(server: Server) -> list[pb.Drawing]:
    """A drawing of each prompt, by the service itself."""
    with grpc.insecure_channel(server.address) as channel:
        stub = HiTreeStub(channel)
        return [
            _drawn(stub.Draw(pb.DrawRequest(plan=plan, seed=1)))
            for plan in write_plans(server.address)
        ]


def _drawn(events: Any) -> pb.Drawing:
    strokes: dict[int, pb.Stroke] = {}
    for event in events:
        if event.HasField("points"):
            stroke = strokes.setdefault(event.points.stroke, pb.Stroke())
            stroke.xs.extend(event.points.xs)
            stroke.ys.extend(event.points.ys)
    return pb.Drawing(strokes=[strokes[index] for index in sorted(strokes)])


# ---- graphs ------------------------------------------------------------------------------------


def costs(bundle: Bundle) -> dict[str, dict[int, float]]:
    """Seconds a row of the graphs that have rows, by the rows of a call."""
    manifest = bundle.manifest
    files = {**manifest.graphs, "generator_step": manifest.generator.file}
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    found = {}
    for name, file in sorted(files.items()):
        session = ort.InferenceSession(str(bundle.file(file)), options)
        if all(one.shape[0] == "rows" for one in session.get_inputs()):
            found[name] = {rows: _cost(session, rows) / rows for rows in ROWS}
    return found


def _cost(session: Any, rows: int, seconds: float = 0.1) -> float:
    """Seconds of a core for a call of ``rows`` rows, the least of five tries."""
    feed = {one.name: _rows(one, rows) for one in session.get_inputs()}
    session.run(None, feed)
    tries = []
    for _ in range(5):
        begun, calls = time.thread_time(), 0
        while (spent := time.thread_time() - begun) < seconds:
            session.run(None, feed)
            calls += 1
        tries.append(spent / calls)
    return min(tries)


def _rows(tensor: Any, rows: int) -> NDArray[np.float32] | NDArray[np.int64]:
    shape = [{"rows": rows, **SIZES}.get(length, length) for length in tensor.shape]
    if tensor.type == "tensor(int64)":
        return np.ones(shape, np.int64)
    if tensor.name.endswith("mask"):
        return np.ones(shape, np.float32)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# ---- tables ------------------------------------------------------------------------------------


def table(found: dict[str, dict[int, list[Round]]]) -> str:
    """Calls by number of clients; medians over rounds with their range."""
    out = head("call", "clients", "a second", "p50, ms", "p99, ms", "service's core a call, ms")
    for name, each in found.items():
        for clients, rounds in each.items():
            out += row(
                name,
                clients,
                spread([r.rate for r in rounds], ",.1f"),
                spread([percentile(r.times, 50) * 1000 for r in rounds]),
                spread([percentile(r.times, 99) * 1000 for r in rounds]),
                spread([r.cost * 1000 for r in rounds], ",.1f"),
            )
    return out


def graph_table(found: dict[str, dict[int, float]]) -> str:
    """Microseconds a row."""
    out = head("µs a row of", *(f"{rows} rows" for rows in ROWS))
    for name, each in found.items():
        out += row(f"`{name}`", *(f"{seconds * 1e6:,.0f}" for seconds in each.values()))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the service"
    )
    add_arguments(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cores[1]})
    bundle = bundles.load(args.bundle)
    sys.stdout.write(f"{bundle.manifest.version}, onnxruntime {ort.__version__}\n\n")
    with serving(args.bundle, args.cores[0], **settings(args.set)) as server:
        calls = asks(server)
        found: dict[str, dict[int, list[Round]]] = {
            name: {clients: [] for clients in args.clients} for name in calls
        }
        for _ in range(args.rounds):
            for name, each in found.items():
                for clients, rounds in each.items():
                    made = closed(server, calls[name], clients, args.seconds)
                    rounds.append(asyncio.run(made))
        with pinned(args.cores[0]):
            graphs = costs(bundle)
    sys.stdout.write(f"{table(found)}\n{graph_table(graphs)}")
    if args.json:
        rounds_of = {
            name: [asdict(r) for rounds in each.values() for r in rounds]
            for name, each in found.items()
        }
        args.json.write_text(json.dumps({"calls": rounds_of, "graphs": graphs}))


if __name__ == "__main__":
    main()
