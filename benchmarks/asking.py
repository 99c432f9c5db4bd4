"""Asks a service for drawings over gRPC and notes what came when.

Every request brings its plan, so that no planner runs and the engine is what is measured. Plans
are written once, by the service itself; seeds never repeat.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING

import grpc
import numpy as np
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from hitree.codec import ungrouped
from hitree.v1 import hitree_pb2 as pb
from hitree.v1.hitree_pb2_grpc import HiTreeStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

PROMPTS = ("draw a flamingo", "draw a cat", "draw an owl", "draw a sea turtle", "draw a rabbit")
CHANNELS = 8  # connections, which requests take in turns
DEADLINE = 120.0  # seconds; whatever takes longer hangs


@dataclass
class Asked:
    """One request and what became of it; times are of `time.perf_counter`."""

    asked: float
    first: float | None = None  # when the first point was here
    ended: float = 0.0
    points: int = 0
    code: str = "UNFINISHED"  # "OK", the name of a gRPC code, or the reason of an error event
    hint: float | None = None  # seconds after which a refusal asks to try again

    @property
    def whole(self) -> float:
        """Seconds until the last event, or the refusal."""
        return self.ended - self.asked


class Asker:
    """Makes requests and sends them over several connections."""

    def __init__(
        self, channels: list[grpc.aio.Channel], plans: list[pb.Plan], *, anew: bool = False
    ) -> None:
        """``anew``: the service has seen none of the plans before."""
        self._anew = anew
        self._stubs = cycle([HiTreeStub(channel) for channel in channels])
        self._plans = cycle(plans)
        self._seeds = count(1)
        self.points = 0  # received by all requests so far

    def request(self, max_points: int = 0) -> pb.DrawRequest:
        """The next plan under the next seed; ``max_points`` 0 leaves the length to the drawing."""
        plan, seed = next(self._plans), next(self._seeds)
        if self._anew:
            plan = _other(plan, seed)
        return pb.DrawRequest(plan=plan, seed=seed, max_points=max_points, grouped=True)

    async def ask(self, max_points: int = 0, deadline: float = DEADLINE) -> Asked:
        """Have one drawing made and read all of it."""
        request = self.request(max_points)
        asked = Asked(time.perf_counter())
        try:
            async for message in next(self._stubs).Draw(request, timeout=deadline):
                for event in ungrouped(message):
                    self._note(asked, event)
        except grpc.aio.AioRpcError as exc:
            asked.ended = time.perf_counter()
            asked.code, asked.hint = exc.code().name, _hint(exc)
        else:
            asked.ended = time.perf_counter()
        return asked

    def _note(self, asked: Asked, event: pb.DrawEvent) -> None:
        if event.HasField("points"):
            if asked.first is None:
                asked.first = time.perf_counter()
            made = len(event.points.xs)
            asked.points += made
            self.points += made
        elif event.HasField("finished"):
            asked.code = "OK"
        elif event.HasField("error"):
            asked.code = event.error.reason


def _other(plan: pb.Plan, number: int) -> pb.Plan:
    """A plan whose root says something else."""
    other = pb.Plan()
    other.CopyFrom(plan)
    other.nodes[0].text += f" {number}"
    return other


def _hint(error: grpc.aio.AioRpcError) -> float | None:
    """What the ``RetryInfo`` of a status says; None where it has none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToMilliseconds() / 1000)
    return None


@asynccontextmanager
async def asking(address: str, plans: list[pb.Plan], *, anew: bool = False) -> AsyncIterator[Asker]:
    """An asker with connections of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # else equal channels share a connection
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
    try:
        yield Asker(channels, plans, anew=anew)
    finally:
        for channel in channels:
            await channel.close()


def write_plans(address: str) -> list[pb.Plan]:
    """Have the service write a plan for each prompt."""
    with grpc.insecure_channel(address) as channel:
        stub = HiTreeStub(channel)
        return [stub.Plan(pb.PlanRequest(prompt=prompt, seed=1)).plan for prompt in PROMPTS]


def rows_of(address: str) -> int:
    """Rows of the service's running batch."""
    with grpc.insecure_channel(address) as channel:
        return int(HiTreeStub(channel).ModelInfo(pb.ModelInfoRequest()).engine.max_rows)


def percentile(values: Iterable[float], q: float) -> float:
    """The ``q``-th percentile, not a number where there are no values."""
    found = list(values)
    return float(np.percentile(found, q)) if found else float("nan")


def row(*cells: object) -> str:
    """A line of a markdown table."""
    return f"| {' | '.join(map(str, cells))} |\n"


def head(*cells: str) -> str:
    """The first two lines of a markdown table."""
    return row(*cells) + row(*["---"] * len(cells))
