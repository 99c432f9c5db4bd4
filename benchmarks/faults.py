"""What clients see when something breaks.

    python benchmarks/faults.py [--only cut killed] [--clients 64] [--points 400]

Each fault hits a service, or one of two replicas, while long drawings are made. The clients are
those of the SDK, which take up what broke off; every drawing is compared, point by point, with the
one that its seed makes in peace. Half of the clients are hit and half are neighbours, or chance
decides, where one of two replicas is hit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from asking import head, row
from crowd import PLAN, Crowd, Seen, difference, draw_all, placed
from relay import Relay
from serving import add_arguments, serving

from hitree.codec import event_from_wire, plan_to_wire
from hitree.events import Finished, Points
from hitree.v1 import hitree_pb2 as pb
from hitree.v1.hitree_pb2_grpc import HiTreeStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from serving import Server

FAULTY = Path(__file__).with_name("faulty.py")
LONGEST = 2000  # points of drawings that must not be done before their fault
WINDOW = 2048  # bytes that a stalled reader lets the service send ahead
STALL_SECONDS = 3.0
DRAIN_SECONDS = 60.0  # more than any drawing takes


@dataclass(frozen=True)
class Fault:
    """What came of one fault."""

    name: str
    clients: int
    finished: int
    resumed: int  # drawings that were taken up at least once
    ends: dict[str, int]  # the other drawings, by the reason that they ended with
    lost: int  # points missing of the drawings that finished
    doubled: int  # points too many in them
    silence: float  # longest time between two events of those that were not hit, seconds
    note: str
    held: dict[str, int]  # by the engines when all was over


class Stage:
    """Where faults are played: services, clients and what drawings look like in peace."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.seeds = range(1, args.clients + 1)
        self.half = args.clients // 2
        self._services = ExitStack()
        self._running: list[Server] = []
        self.whole: dict[int, Seen] = {}

    def serve(self, count: int = 1, **options: object) -> list[Server]:
        """Fresh services in place of those that ran."""
        self.clear()
        for _ in range(count):
            service = serving(self.args.bundle, self.args.cores[0], **options)  # type: ignore[arg-type]
            self._running.append(self._services.enter_context(service))
        return self._running

    def clear(self) -> None:
        """Stop all services."""
        self._services.close()
        self._running = []

    async def make_whole(self) -> float:
        """Make every drawing in peace; returns the longest silence, seconds."""
        (server,) = self.serve()
        made = await draw_all([server.address], self.seeds, self.args.points)
        self.whole = {seen.seed: seen for seen in made}
        return max(seen.silence for seen in made)

    def crowd(self, seeds: range, *addresses: str) -> Crowd:
        """Clients, one a seed."""
        return Crowd(addresses, seeds, self.args.points)

    def halves(self) -> tuple[range, range]:
        """The seeds of those that are hit, and of the others."""
        return self.seeds[: self.half], self.seeds[self.half :]

    async def told(
        self,
        name: str,
        hit: list[Seen],
        others: list[Seen],
        note: str = "",
        longer: Sequence[Seen] = (),
    ) -> Fault:
        """What came of a fault, when all clients are done; some may have been asked for more."""
        whole = self.whole | {seen.seed: seen for seen in longer}
        seen = [*hit, *others]
        ended = [s for s in seen if s.code != "OK"]
        apart = [difference(s, whole[s.seed]) for s in seen if s.code == "OK"]
        alive = [server for server in self._running if server.process.poll() is None]
        held: Counter[str] = Counter()
        for server in alive:
            held.update((await asyncio.to_thread(server.until_idle)).held)
        return Fault(
            name=name,
            clients=len(seen),
            finished=len(seen) - len(ended),
            resumed=sum(s.resumed > 0 for s in seen),
            ends=dict(Counter(s.code for s in ended)),
            lost=sum(d.lost for d in apart),
            doubled=sum(d.doubled for d in apart),
            silence=max((s.silence for s in others), default=float("nan")),
            note=note,
            held=dict(held),
        )


# ---- clients and their connections -----------------------------------------------------------


async def killed(stage: Stage) -> Fault:
    """A process with many clients is killed."""
    (server,) = stage.serve()
    _, others = stage.halves()
    here = [sys.executable, __file__, "--victim", server.address, "--clients", str(stage.half)]
    neighbours = stage.crowd(others, server.address)
    with subprocess.Popen(here, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        await asyncio.gather(neighbours.drawing(), asyncio.to_thread(victim.stdout.readline))
        victim.kill()
        freed = await _freed(server, len(others))
    note = f"{stage.half} clients died; their rows were free after {freed * 1000:.0f} ms"
    return await stage.told("a client process is killed", [], await neighbours.seen(), note)


async def _freed(server: Server, left: int) -> float:
    """Seconds until no more than ``left`` drawings are held."""
    begun = time.monotonic()
    while sum((await asyncio.to_thread(server.read)).held.values()) > left:
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def be_victim(address: str, clients: int) -> None:
    """Draw and say when all have points; whoever started this process kills it then."""
    crowd = Crowd([address], range(10**6, 10**6 + clients), LONGEST)
    await crowd.drawing()
    sys.stdout.write("drawing\n")
    sys.stdout.flush()
    await crowd.seen()


async def cut(stage: Stage) -> Fault:
    """Connections are reset; the clients connect again."""
    return await _on_the_line(stage, "connections are reset", Relay.cut)


async def silent(stage: Stage) -> Fault:
    """Connections fall silent: nothing is closed, and nothing comes any more."""
    return await _on_the_line(stage, "connections fall silent", Relay.fall_silent)


async def _on_the_line(stage: Stage, name: str, fault: Callable[[Relay], None]) -> Fault:
    (server,) = stage.serve()
    relay = Relay(server.address)
    await relay.open()
    hit, others = stage.halves()
    far, near = stage.crowd(hit, relay.address), stage.crowd(others, server.address)
    await asyncio.gather(far.drawing(), near.drawing())
    fault(relay)
    begun = time.monotonic()
    seen, neighbours = await asyncio.gather(far.seen(), near.seen())
    note = f"the last of those hit was done after {max(s.ended for s in seen) - begun:.1f} s"
    told = await stage.told(name, seen, neighbours, note)
    await relay.close()
    return told


async def stalled(stage: Stage) -> Fault:
    """Readers stop reading, and go on later."""
    (server,) = stage.serve()
    slow, others = stage.halves()
    goes_on = asyncio.Event()
    readers = [asyncio.create_task(_read(server, seed, goes_on)) for seed in slow]
    neighbours = stage.crowd(others, server.address)
    await neighbours.drawing()
    await asyncio.sleep(STALL_SECONDS)
    paused = (await asyncio.to_thread(server.read)).held["paused"]
    near = await neighbours.seen()
    goes_on.set()
    seen = await asyncio.gather(*readers)
    note = f"{paused} of {len(slow)} readers were paused; the others finished meanwhile"
    whole = await draw_all([server.address], slow, LONGEST)
    return await stage.told("readers stall", list(seen), near, note, whole)


async def _read(server: Server, seed: int, goes_on: asyncio.Event) -> Seen:
    """Read the first points, wait, then read the rest."""
    options = [("grpc.http2.lookahead_bytes", WINDOW), ("grpc.http2.bdp_probe", 0)]
    seen = Seen(seed)
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        request = pb.DrawRequest(plan=plan_to_wire(PLAN), seed=seed, max_points=LONGEST)
        async for message in HiTreeStub(channel).Draw(request):
            event = event_from_wire(message)
            if isinstance(event, Points):
                seen.points += placed(event.points, event.stroke)
                await goes_on.wait()
            elif isinstance(event, Finished):
                seen.code = "OK"
    return seen


# ---- the device ------------------------------------------------------------------------------


async def failing(stage: Stage) -> Fault:
    """A step fails."""
    return await _on_a_faulty_device(stage, "the device fails a step", 1)


async def broken(stage: Stage) -> Fault:
    """Steps fail until the engine is unready, and it comes back."""
    return await _on_a_faulty_device(stage, "the device fails 8 steps in a row", 8)


async def _on_a_faulty_device(stage: Stage, name: str, count: int) -> Fault:
    soon = stage.args.points // 8  # steps, each of some points: half of each drawing is made
    command = (sys.executable, str(FAULTY), str(soon), str(count))
    (server,) = stage.serve(command=command)
    seen = await stage.crowd(stage.seeds, server.address).seen()
    steps = int((await asyncio.to_thread(server.read))["hitree_steps_failed_total"])
    if not steps:
        raise RuntimeError(f"{name}: no step failed, nothing was shown")
    return await stage.told(name, seen, [], f"{steps} of the service's steps failed")


# ---- one of two replicas ---------------------------------------------------------------------


async def lost(stage: Stage) -> Fault:
    """One of two replicas is killed."""
    first, second = stage.serve(2)
    crowd = stage.crowd(stage.seeds, first.address, second.address)
    await crowd.drawing()
    first.process.kill()
    return await _parted(stage, "kill -9 of one of two replicas", await crowd.seen())


async def drained(stage: Stage) -> Fault:
    """One of two replicas is told to stop, and lets running drawings finish."""
    return await _stopped(stage, "SIGTERM to one of two replicas", DRAIN_SECONDS)


async def hurried(stage: Stage) -> Fault:
    """One of two replicas is told to stop, and breaks off what runs after a second."""
    return await _stopped(stage, "SIGTERM, one second to drain", 1.0)


async def _stopped(stage: Stage, name: str, drain: float) -> Fault:
    first, second = stage.serve(2, drain_seconds=drain)
    early, late = stage.halves()
    addresses = (first.address, second.address)
    crowd = stage.crowd(early, *addresses)
    await crowd.drawing()
    first.process.send_signal(signal.SIGTERM)
    latecomers = stage.crowd(late, *addresses)
    seen = [*await crowd.seen(), *await latecomers.seen()]
    code = await asyncio.to_thread(first.process.wait, DRAIN_SECONDS)
    note = f"{len(late)} clients came after the signal; the replica ended with {code}"
    return await _parted(stage, name, seen, note)


async def _parted(stage: Stage, name: str, seen: list[Seen], note: str = "") -> Fault:
    """Tell those that were hit from the others by what was taken up."""
    hit, others = ([s for s in seen if (s.resumed > 0) is taken] for taken in (True, False))
    return await stage.told(name, hit, others, note)


async def reloaded(stage: Stage) -> Fault:
    """The bundle is loaded anew."""
    (server,) = stage.serve()
    early, late = stage.halves()
    crowd = stage.crowd(early, server.address)
    await crowd.drawing()
    server.process.send_signal(signal.SIGHUP)
    while '"event": "reloaded"' not in server.logged():
        await asyncio.sleep(0.05)
    fresh = stage.crowd(late, server.address)
    seen = [*await crowd.seen(), *await fresh.seen()]
    return await stage.told("SIGHUP", [], seen, f"{len(late)} clients came after the reload")


FAULTS: dict[str, Callable[[Stage], Awaitable[Fault]]] = {
    play.__name__: play
    for play in (
        killed, cut, silent, stalled, failing, broken, lost, drained, hurried, reloaded
    )
}  # fmt: skip


def table(faults: list[Fault]) -> str:
    """All faults."""
    out = head(
        "fault", "clients", "finished", "resumed", "other ends", "lost points", "doubled points",
        "longest silence of the others, s", "left in the engine", "besides",
    )  # fmt: skip
    for fault in faults:
        out += row(
            fault.name,
            fault.clients,
            fault.finished,
            fault.resumed,
            ", ".join(f"{n} {code}" for code, n in fault.ends.items()) or "none",
            fault.lost,
            fault.doubled,
            f"{fault.silence:.2f}",
            sum(fault.held.values()),
            fault.note,
        )
    return out


async def play_all(args: argparse.Namespace) -> list[Fault]:
    """Play the faults that are asked for, one after the other."""
    stage = Stage(args)
    try:
        silence = await stage.make_whole()
        sys.stdout.write(f"{args.clients} drawings in peace; longest silence {silence:.2f} s\n\n")
        return [await FAULTS[name](stage) for name in args.only]
    finally:
        stage.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--points", type=int, default=400, help="of each drawing")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--victim", help=argparse.SUPPRESS)
    add_arguments(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cores[1]})
    if args.victim:
        asyncio.run(be_victim(args.victim, args.clients))
        return
    faults = asyncio.run(play_all(args))
    sys.stdout.write(table(faults))
    if args.json:
        args.json.write_text(json.dumps(list(map(asdict, faults))))


if __name__ == "__main__":
    main()
