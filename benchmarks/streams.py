"""What a service gives many streams at once, beside a bare loop on the same core.

    python benchmarks/streams.py [--streams 1 8 64 256] [--rounds 5] [--seconds 5]

Each of N clients asks for a drawing, reads it and asks for the next; a few plans are drawn over and
over. The service has a core of its own, and the clients have another one. In every round the bare
loop (of ``hitree bench``) runs on the service's core, at as many rows as the streams can have,
while the service is idle. The last table sets the service beside one that draws a single sequence
at a time, again in turns, and tells what it costs that a plan is new.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no stubs
from asking import asking, head, percentile, row, write_plans
from serving import add_arguments, serving

from hitree import bundle as bundles
from hitree_server.backend import open_decoder
from hitree_server.bench import bare, drawings
from hitree_server.models import Models
from hitree_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asking import Asked, Asker
    from serving import Reading, Server

    from hitree.bundle import Bundle
    from hitree.v1 import hitree_pb2 as pb

PATIENT = 600.0  # seconds that a drawing may wait for a row: nobody is refused here
CROWD = 64  # clients that the service and its one-at-a-time twin are compared with
BATCHING, NEW = "continuous batching", "the same, no plan drawn twice"


@dataclass(frozen=True)
class Round:
    """What a number of streams saw in some seconds."""

    streams: int
    points: float  # a second, that the clients received
    drawings: float  # a second
    first: tuple[float, ...]  # seconds from asking to the first point
    steps: dict[str, int]  # by the upper bound of their rows
    rows: float  # of a step, mean
    server: float  # share of its core that the service used
    client: float  # share of their core that the clients used
    bare: float = float("nan")  # points a second of the bare loop
    failed: int = 0  # drawings that were not finished


async def closed(
    server: Server, plans: list[pb.Plan], streams: int, seconds: float, *, anew: bool = False
) -> Round:
    """Have ``streams`` clients draw one drawing after another."""
    made: list[Asked] = []
    async with asking(server.address, plans, anew=anew) as asker:
        over = asyncio.Event()
        readers = [asyncio.create_task(_keep_asking(asker, over, made)) for _ in range(streams)]
        while len(made) < streams:  # all begin together, and drift apart
            await asyncio.sleep(seconds / 20)
        before, points, begun = server.read(), asker.points, time.perf_counter()
        used, worked = time.process_time(), server.worked()
        await asyncio.sleep(seconds)
        spent = time.perf_counter() - begun
        used, worked = time.process_time() - used, server.worked() - worked
        points, after = asker.points - points, server.read()
        over.set()
        await asyncio.gather(*readers)
    ended = [a for a in made if begun <= a.ended < begun + spent and a.code == "OK"]
    steps = _steps(before, after)
    return Round(
        streams=streams,
        points=points / spent,
        drawings=len(ended) / spent,
        first=tuple(a.first - a.asked for a in ended if a.first is not None),
        steps=steps,
        rows=_difference(before, after, "sum") / max(1.0, _difference(before, after, "count")),
        server=worked / spent,
        client=used / spent,
        failed=sum(a.code != "OK" for a in made),
    )


async def _keep_asking(asker: Asker, over: asyncio.Event, made: list[Asked]) -> None:
    while not over.is_set():
        made.append(await asker.ask())


def _steps(before: Reading, after: Reading) -> dict[str, int]:
    """Steps between two readings, by the upper bound of their rows."""
    name, counts, below = "hitree_step_rows_bucket", {}, 0.0
    earlier = before.by(name, "le")
    for bound, count in after.by(name, "le").items():  # cumulative, ascending
        up_to = count - earlier.get(bound, 0.0)
        if up_to > below:
            counts[bound.removesuffix(".0")] = int(up_to - below)
        below = up_to
    return counts


def _difference(before: Reading, after: Reading, part: str) -> float:
    name = f"hitree_step_rows_{part}"
    return after[name] - before[name]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run this thread on a core, then where it ran before."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def measure(args: argparse.Namespace, bundle: Bundle, server: Server) -> dict[int, list[Round]]:
    """All rounds of every number of streams; the numbers take turns."""
    plans = write_plans(server.address)
    graph = bundle.manifest.decoder
    specs = drawings(Models.load(bundle, threads=1))
    with pinned(args.cores[0]):
        _, device = open_decoder(bundle, Settings.of(provider="cpu"))
    found: dict[int, list[Round]] = {streams: [] for streams in args.streams}
    for _ in range(args.rounds):
        for streams, rounds in found.items():
            server.until_idle()
            with pinned(args.cores[0]):
                rows = min(streams, args.max_rows)
                loop = bare(graph, device, specs, rows, args.seconds / 2)
            made = asyncio.run(closed(server, plans, streams, args.seconds))
            rounds.append(Round(**{**vars(made), "bare": loop}))
    return found


def compare(args: argparse.Namespace, server: Server) -> dict[str, list[Round]]:
    """Rounds of the service, and of one that draws a single sequence at a time."""
    plans = write_plans(server.address)
    found: dict[str, list[Round]] = {}
    with serving(args.bundle, args.cores[0], max_rows=1, longest_wait=PATIENT) as single:
        sides = {BATCHING: (server, False), NEW: (server, True), "one at a time": (single, False)}
        for _ in range(args.rounds):
            for name, (one, anew) in sides.items():
                one.until_idle()
                made = asyncio.run(closed(one, plans, CROWD, args.seconds, anew=anew))
                found.setdefault(name, []).append(made)
    return found


def spread(values: list[float], form: str = ",.0f") -> str:
    """The median, and the least and the most."""
    low, mid, high = (format(float(np.quantile(values, q)), form) for q in (0, 0.5, 1))
    return f"{mid} ({low} to {high})"


def milliseconds(rounds: list[Round], q: float) -> str:
    """A percentile of the times to the first point: the median over rounds, and their range."""
    return spread([percentile(r.first, q) * 1000 for r in rounds], ",.1f")


def table(found: dict[int, list[Round]]) -> str:
    """Streams beside the bare loop; medians over rounds with their range."""
    out = head(
        "streams", "points a second", "bare loop", "ratio", "drawings a second",
        "first point p50, ms", "p99, ms", "rows a step", "service's core", "clients' core",
    )  # fmt: skip
    for streams, rounds in found.items():
        out += row(
            streams,
            spread([r.points for r in rounds]),
            spread([r.bare for r in rounds]),
            spread([r.points / r.bare for r in rounds], ".2f"),
            spread([r.drawings for r in rounds], ",.1f"),
            milliseconds(rounds, 50),
            milliseconds(rounds, 99),
            f"{np.median([r.rows for r in rounds]):.1f}",
            f"{np.median([r.server for r in rounds]):.0%}",
            f"{np.median([r.client for r in rounds]):.0%}",
        )
    return out


def histogram(found: dict[int, list[Round]]) -> str:
    """How many rows the steps had, in shares of the steps of all rounds."""
    bounds = sorted({b for rounds in found.values() for r in rounds for b in r.steps}, key=float)
    out = head("streams", *(f"up to {bound} rows" for bound in bounds))
    for streams, rounds in found.items():
        counts = [sum(r.steps.get(bound, 0) for r in rounds) for bound in bounds]
        out += row(streams, *(f"{count / max(1, sum(counts)):.1%}" for count in counts))
    return out


def twins(found: dict[str, list[Round]]) -> str:
    """The service beside its one-at-a-time twin."""
    out = head(
        f"{CROWD} clients", "points a second", "drawings a second", "first point p50, ms", "p99, ms"
    )
    for name, rounds in found.items():
        out += row(
            name,
            spread([r.points for r in rounds]),
            spread([r.drawings for r in rounds], ",.1f"),
            milliseconds(rounds, 50),
            milliseconds(rounds, 99),
        )
    many, _, single = found.values()
    ratios = [a.points / b.points for a, b in zip(many, single, strict=True)]
    return out + row("first to last", spread(ratios, ".1f"), "", "", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a round")
    parser.add_argument("--max-rows", type=int, default=64, help="of the service's running batch")
    add_arguments(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cores[1]})
    bundle = bundles.load(args.bundle)
    sys.stdout.write(f"{bundle.manifest.version}, onnxruntime {ort.__version__}\n\n")
    with serving(
        args.bundle, args.cores[0], max_rows=args.max_rows, longest_wait=PATIENT
    ) as server:
        streams = measure(args, bundle, server)
        sys.stdout.write(f"{table(streams)}\n{histogram(streams)}\n")
        pair = compare(args, server)
        sys.stdout.write(twins(pair))
    rounds = {str(name): list(map(asdict, each)) for name, each in {**streams, **pair}.items()}
    failed = sum(r["failed"] for each in rounds.values() for r in each)
    sys.stdout.write(f"\n{failed} drawings were not finished\n")
    if args.json:
        args.json.write_text(json.dumps({"bundle": bundle.manifest.version, "rounds": rounds}))


if __name__ == "__main__":
    main()
