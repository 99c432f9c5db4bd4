"""What gRPC for Python costs with nothing of the service in it: the floor under its door.

    python benchmarks/floor.py [--seconds 4] [--cores 0 1]

A server of a few lines, on a core of its own, streams small messages that were made before, or
refuses: by a handler that aborts with a status's details, or by ``maximum_concurrent_rpcs``, which
asks no handler and can give no hint. Clients on another core call again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any  # Any: messages are bytes

import grpc
from asking import head, row
from serving import used

if TYPE_CHECKING:
    from collections.abc import Iterator

    Context = grpc.aio.ServicerContext[bytes, bytes]

MESSAGE, MESSAGES = b"x" * 180, 20  # of a stream: a drawing's, as far as their sizes matter
DETAILS = (("grpc-status-details-bin", b"x" * 120),)  # of a refusal with a hint
HELD = 4  # calls that never end, where no more are let in
CLIENTS, CHANNELS = 64, 8


async def _draw(request: bytes, context: Context) -> None:
    if request == b"hold":
        await asyncio.Event().wait()
    if request == b"refuse":
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "try again in 1 s", DETAILS)
    for _ in range(MESSAGES):
        await context.write(MESSAGE)


async def _serve(most: int) -> None:
    """Serve, ``most`` calls at a time where that is above 0; prints the port."""
    method = grpc.unary_stream_rpc_method_handler(_draw)  # type: ignore[arg-type]  # writes
    server = grpc.aio.server(maximum_concurrent_rpcs=most or None)
    handlers = grpc.method_handlers_generic_handler("Floor", {"Draw": method})
    server.add_generic_rpc_handlers((handlers,))
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


@contextmanager
def serving(core: int, most: int = 0) -> Iterator[tuple[int, int]]:
    """A server of its own process, pinned to a core: its process id and its port."""
    command = [sys.executable, __file__, "--serve", str(most)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        os.sched_setaffinity(process.pid, {core})
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


async def call(pid: int, port: int, request: bytes, seconds: float, held: int = 0) -> list[float]:
    """Calls a second, messages a second, and milliseconds of the server's core for a call."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(CHANNELS)
    ]
    stubs: list[Any] = [channel.unary_stream("/Floor/Draw") for channel in channels]
    kept = [stubs[0](b"hold") for _ in range(held)]
    reading = [asyncio.ensure_future(one.read()) for one in kept]
    await asyncio.sleep(0.5)
    until, calls, messages = time.perf_counter() + seconds, 0, 0

    async def again(stub: Any) -> None:
        nonlocal calls, messages
        while time.perf_counter() < until:
            try:
                async for _ in stub(request):
                    messages += 1
            except grpc.aio.AioRpcError as exc:
                assert exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, exc  # noqa: PT017
            calls += 1

    before, began = used(pid), time.perf_counter()
    await asyncio.gather(*(again(stubs[n % CHANNELS]) for n in range(CLIENTS)))
    spent, worked = time.perf_counter() - began, used(pid) - before
    for channel in channels:
        await channel.close()
    await asyncio.gather(*reading, return_exceptions=True)  # they end with their channel
    return [calls / spent, messages / spent, worked / calls * 1000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], metavar=("SERVER", "CLIENTS"))
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(_serve(args.serve))
        return
    os.sched_setaffinity(0, {args.cores[1]})
    columns = "calls a second", "messages a second", "server's core a call, ms", "a message, ms"
    sys.stdout.write(f"grpcio {grpc.__version__}\n\n{head('what', *columns)}")
    for what, request, most in (
        (f"{MESSAGES} messages", b"draw", 0),
        ("refused by a handler", b"refuse", 0),
        ("refused by gRPC, no hint", b"draw", HELD),
    ):
        with serving(args.cores[0], most) as (pid, port):
            calls, messages, cost = asyncio.run(call(pid, port, request, args.seconds, most))
        each = f"{cost / (messages / calls):.3f}" if messages > calls else ""
        sys.stdout.write(row(what, f"{calls:,.0f}", f"{messages:,.0f}", f"{cost:.2f}", each))


if __name__ == "__main__":
    main()
