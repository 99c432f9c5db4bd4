"""Many short requests, a third of them given up: does a service keep anything?

    python benchmarks/soak.py [--requests 20000] [--clients 32]

Clients ask for short drawings one after another and cancel every third one at a random moment.
Memory is sampled all along; in the end no sequence may be in a slot or wait, and no error may have
been seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from asking import asking, head, row, write_plans
from serving import add_arguments, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asking import Asker
    from serving import Server

    from hitree.v1 import hitree_pb2 as pb

POINTS = 40  # of a drawing, at most
CANCELLED = 1 / 3  # of the requests
SAMPLE_SECONDS = 0.5
AT = (0.1, 0.5, 1.0)  # of the requests, where memory is told
MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The service's memory at one moment."""

    second: float
    requests: int  # that were over
    resident: int  # bytes


@dataclass(frozen=True)
class Soak:
    """What became of all requests."""

    seconds: float
    codes: dict[str, int]
    points: int
    samples: list[Sample]
    held: dict[str, int]  # by the engine when all was over
    ended: dict[str, float]  # sequences by how the engine saw them end
    calls: dict[str, float]  # Draw calls by how the doors saw them end

    def resident(self, share: float) -> float:
        """MiB once this share of the requests was over."""
        wanted = share * self.samples[-1].requests
        return next(s.resident for s in self.samples if s.requests >= wanted) / MIB

    @property
    def slope(self) -> float:
        """MiB that 10,000 requests add, by a line through the second half."""
        half = [s for s in self.samples if s.requests >= self.samples[-1].requests / 2]
        line = np.polyfit([s.requests for s in half], [s.resident for s in half], 1)
        return float(line[0]) * 10_000 / MIB


async def soak(server: Server, plans: list[pb.Plan], requests: int, clients: int) -> Soak:
    """Have all requests made, and sample memory meanwhile."""
    codes: Counter[str] = Counter()
    begun = time.perf_counter()
    samples: list[Sample] = []

    def sample() -> None:
        second = time.perf_counter() - begun
        samples.append(Sample(second, codes.total(), server.memory()))

    async def keep_sampling() -> None:
        while True:
            sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async with asking(server.address, plans) as asker:
        sampling = asyncio.create_task(keep_sampling())
        numbers = iter(range(requests))
        chance = random.Random(1)
        await asyncio.gather(*(_client(asker, numbers, chance, codes) for _ in range(clients)))
        sampling.cancel()
        points = asker.points
    now = await asyncio.to_thread(server.until_idle)
    sample()
    return Soak(
        seconds=time.perf_counter() - begun,
        codes=dict(codes),
        points=points,
        samples=samples,
        held=now.held,
        ended=now.by("hitree_sequences_total", "reason"),
        calls=now.by("hitree_calls_total", "code"),
    )


async def _client(
    asker: Asker, numbers: Iterator[int], chance: random.Random, codes: Counter[str]
) -> None:
    usual = 0.5  # seconds that a drawing takes: cancellations come at any moment of it
    for _ in numbers:
        patience = chance.uniform(0, usual) if chance.random() < CANCELLED else None
        drawing = asyncio.create_task(asker.ask(POINTS))
        await asyncio.wait({drawing}, timeout=patience)
        if not drawing.done():
            drawing.cancel()
            await asyncio.wait({drawing})
        if drawing.cancelled():
            codes["given up"] += 1
            continue
        codes[drawing.result().code] += 1
        usual += 0.1 * (drawing.result().whole - usual)


def table(made: Soak) -> str:
    """Memory, what was left, and how requests ended."""
    out = head("what", "figure")
    out += row("requests", f"{sum(made.codes.values()):,} in {made.seconds:,.0f} s")
    out += row("points received", f"{made.points:,}")
    for share in AT:
        out += row(f"resident after {share:.0%}", f"{made.resident(share):.1f} MiB")
    out += row("slope over the second half", f"{made.slope:+.2f} MiB for 10,000 requests")
    out += row("ends, as clients saw them", _counts(made.codes))
    out += row("ends of Draw calls, as the doors counted them", _counts(made.calls))
    out += row("ends of sequences, as the engine counted them", _counts(made.ended))
    return out + row("left in the engine", _counts(made.held))


def _counts(counts: dict[str, float] | dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,.0f}" for name, count in sorted(counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=32)
    add_arguments(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cores[1]})
    with serving(args.bundle, args.cores[0]) as server:
        plans = write_plans(server.address)
        made = asyncio.run(soak(server, plans, args.requests, args.clients))
    sys.stdout.write(table(made))
    if args.json:
        args.json.write_text(json.dumps(asdict(made)))


if __name__ == "__main__":
    main()
