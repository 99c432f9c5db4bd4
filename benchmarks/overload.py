"""What a service does with more requests than it can serve.

    python benchmarks/overload.py [--seconds 20] [--set longest_wait=0.05 max_rows=16]

First its capacity is measured, with clients that draw one drawing after another. Then requests
come by themselves, as a Poisson process, at 0.8 and at 10 times that capacity. Those that are
accepted should hardly be slower than before, the others be refused quickly, with a hint when to try
again, and nothing may hang or be left behind. Then there are ten times as many clients as the
service has rows, each of which wants one drawing after another, and comes again when it is told to,
as the SDK does. A last, short run asks over HTTP at twice the capacity, which is what its client
can send.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import httpx
import numpy as np
from asking import Asked, asking, head, percentile, row, rows_of, write_plans
from serving import add_arguments, serving

from hitree.codec import to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asking import Asker
    from serving import Server

    from hitree.v1 import hitree_pb2 as pb

RAMP = 0.2  # of a load's seconds, which do not count: it begins in an empty engine
WITHIN = 60.0  # seconds for a call: one that takes them hangs
REFUSALS = ("RESOURCE_EXHAUSTED", "429")
LIGHT, HEAVY, HTTP = 0.8, 10.0, 2.0  # of the capacity


@dataclass(frozen=True)
class Run:
    """What a stream of requests saw."""

    name: str
    rate: float  # requests a second that were sent
    sent: int
    codes: dict[str, int]
    served: float  # drawings a second
    first: tuple[float, ...]  # seconds to the first point, of what was accepted
    whole: tuple[float, ...]  # seconds to the last event, of what was accepted
    refused: tuple[float, ...]  # seconds to the refusal
    hints: tuple[float, ...]  # seconds that refusals asked to wait
    lag: tuple[float, ...]  # seconds that requests were sent late
    server: float  # share of its core that the service used
    client: float  # share of their core that the clients used
    held: dict[str, int] = field(default_factory=dict)  # by the engine when all was over

    @property
    def rejected(self) -> int:
        """Requests that were refused for want of room."""
        return sum(self.codes.get(code, 0) for code in REFUSALS)

    @property
    def hung(self) -> int:
        """Requests that had no end within `WITHIN`."""
        return self.codes.get("DEADLINE_EXCEEDED", 0)


async def capacity(server: Server, plans: list[pb.Plan], seconds: float) -> float:
    """Drawings a second where each row is always wanted, and none is waited for."""
    rows = rows_of(server.address)
    ends: list[float] = []
    async with asking(server.address, plans) as asker:
        over = asyncio.Event()

        async def keep_asking() -> None:
            while not over.is_set():
                ends.append((await asker.ask()).ended)

        clients = [asyncio.create_task(keep_asking()) for _ in range(rows)]
        while len(ends) < rows:  # all begin together, and drift apart
            await asyncio.sleep(seconds / 20)
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        spent = time.perf_counter() - begun
        over.set()
        await asyncio.gather(*clients)
    return sum(begun <= end < begun + spent for end in ends) / spent


async def arrive(
    ask: Callable[[], Awaitable[Asked]], rate: float, seconds: float
) -> tuple[list[Asked], list[float]]:
    """Send requests when they are due, whatever became of those before; and how late they were."""
    rng = np.random.default_rng(1)
    due = np.cumsum(rng.exponential(1 / rate, size=int(rate * seconds)))
    calls, lag, begun = [], [], time.perf_counter()
    for at in due:
        if (wait := begun + at - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        lag.append(time.perf_counter() - begun - at)
        calls.append(asyncio.create_task(ask()))
        if len(calls) % 16 == 0:
            await asyncio.sleep(0)  # a burst must not hold up what is being read
    return list(await asyncio.gather(*calls)), lag


async def insist(
    ask: Callable[[], Awaitable[Asked]], clients: int, seconds: float
) -> tuple[list[Asked], list[float]]:
    """Have clients ask again and again, but not before they are told to; and how late they were."""
    calls, lag, until = list[Asked](), list[float](), time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until:
            asked = await ask()
            calls.append(asked)
            due = asked.ended + (asked.hint or 0.0)
            if due < until:
                await asyncio.sleep(due - time.perf_counter())
                lag.append(time.perf_counter() - due)
            elif asked.code in REFUSALS:
                return

    await asyncio.gather(*(client() for _ in range(clients)))
    return calls, lag


async def over_grpc(
    name: str, server: Server, plans: list[pb.Plan], rate: float, seconds: float
) -> Run:
    """Requests over gRPC."""
    async with asking(server.address, plans) as asker:
        load = arrive(lambda: asker.ask(deadline=WITHIN), rate, seconds)
        return await _run(name, server, load, seconds)


async def over_grpc_again(
    name: str, server: Server, plans: list[pb.Plan], clients: float, seconds: float
) -> Run:
    """Clients over gRPC who come again when they are told to."""
    async with asking(server.address, plans) as asker:
        load = insist(lambda: asker.ask(deadline=WITHIN), round(clients), seconds)
        return await _run(name, server, load, seconds)


async def over_http(
    name: str, server: Server, plans: list[pb.Plan], rate: float, seconds: float
) -> Run:
    """Requests over HTTP."""
    limits = httpx.Limits(max_connections=None)
    async with (
        asking(server.address, plans) as asker,
        httpx.AsyncClient(base_url=server.http, timeout=WITHIN, limits=limits) as http,
    ):
        return await _run(name, server, arrive(lambda: _post(http, asker), rate, seconds), seconds)


async def _post(http: httpx.AsyncClient, asker: Asker) -> Asked:
    body = to_json(asker.request())
    asked = Asked(time.perf_counter())
    try:
        async with http.stream("POST", "/v1/draw", json=body) as response:
            asked.code = str(response.status_code)
            if "retry-after" in response.headers:
                asked.hint = float(response.headers["retry-after"])
            async for line in response.aiter_lines():
                if line == "event: points" and asked.first is None:
                    asked.first = time.perf_counter()
                elif line == "event: finished":
                    asked.code = "OK"
    except httpx.HTTPError as exc:
        asked.code = type(exc).__name__
    asked.ended = time.perf_counter()
    return asked


async def _run(
    name: str,
    server: Server,
    load: Awaitable[tuple[list[Asked], list[float]]],
    seconds: float,
) -> Run:
    begun, used = time.perf_counter(), time.process_time()
    worked = server.worked()
    asked, lag = await load
    spent, used = time.perf_counter() - begun, time.process_time() - used
    worked = server.worked() - worked
    everyone = Counter(a.code for a in asked)
    asked = [a for a in asked if a.asked >= begun + RAMP * seconds]
    served = [a for a in asked if a.code == "OK"]
    refused = [a for a in asked if a.code in REFUSALS]
    held = server.until_idle().held
    return Run(
        name=name,
        rate=everyone.total() / seconds,
        sent=everyone.total(),
        codes=dict(everyone),
        served=everyone["OK"] / spent,
        first=tuple(a.first - a.asked for a in served if a.first is not None),
        whole=tuple(a.whole for a in served),
        refused=tuple(a.whole for a in refused),
        hints=tuple(a.hint for a in refused if a.hint is not None),
        lag=tuple(lag),
        server=worked / spent,
        client=used / spent,
        held=held,
    )


def milliseconds(values: tuple[float, ...], *percentiles: float) -> str:
    """Percentiles of seconds."""
    return " / ".join(f"{percentile(values, q) * 1000:,.0f}" for q in percentiles)


def accepted(runs: list[Run]) -> str:
    """What those saw that were accepted, beside the first run."""
    out = head(
        "load", "requests a second", "accepted", "drawings a second", "first point p50 / p99, ms",
        "whole p50 / p99, ms", "p99 against the first row: first point", "whole",
    )  # fmt: skip
    light = runs[0]
    for run in runs:
        out += row(
            run.name,
            f"{run.rate:,.1f}",
            f"{run.codes.get('OK', 0)} of {run.sent}",
            f"{run.served:,.1f}",
            milliseconds(run.first, 50, 99),
            milliseconds(run.whole, 50, 99),
            f"{percentile(run.first, 99) / percentile(light.first, 99):.2f}",
            f"{percentile(run.whole, 99) / percentile(light.whole, 99):.2f}",
        )
    return out


def refused(runs: list[Run]) -> str:
    """What the others saw, and what was left."""
    out = head(
        "load", "refused", "refused p50 / p99, ms", "with a hint", "hint p50, s", "hung",
        "all codes", "left in the engine", "sent late p50 / p99, ms", "service's core",
        "clients' core",
    )  # fmt: skip
    for run in runs:
        out += row(
            run.name,
            f"{run.rejected / run.sent:.1%}",
            milliseconds(run.refused, 50, 99),
            f"{len(run.hints)} of {len(run.refused)}",
            f"{percentile(run.hints, 50):.2f}",
            run.hung,
            ", ".join(f"{code} {n}" for code, n in sorted(run.codes.items())),
            sum(run.held.values()),
            milliseconds(run.lag, 50, 99),
            f"{run.server:.0%}",
            f"{run.client:.0%}",
        )
    return out


def settings(pairs: list[str]) -> dict[str, str]:
    """Settings of the service from ``name=value``."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--heavy", type=float, default=HEAVY, help="the overload, in capacities")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the service"
    )
    add_arguments(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cores[1]})
    with serving(args.bundle, args.cores[0], **settings(args.set)) as server:
        plans = write_plans(server.address)
        rows = rows_of(server.address)
        most = asyncio.run(capacity(server, plans, args.seconds / 2))
        sys.stdout.write(f"capacity: {most:.1f} drawings a second\n\n")
        loads = (
            (f"{LIGHT:g} x", over_grpc, LIGHT * most, args.seconds),
            (f"{args.heavy:g} x", over_grpc, args.heavy * most, args.seconds),
            (f"{args.heavy:g} x, patient", over_grpc_again, args.heavy * rows, args.seconds),
            (f"{HTTP:g} x, HTTP", over_http, HTTP * most, args.seconds / 4),
        )
        runs = [
            asyncio.run(send(name, server, plans, amount, seconds))
            for name, send, amount, seconds in loads
        ]
    sys.stdout.write(f"{accepted(runs)}\n{refused(runs)}")
    if args.json:
        args.json.write_text(json.dumps({"capacity": most, "runs": list(map(asdict, runs))}))


if __name__ == "__main__":
    main()
