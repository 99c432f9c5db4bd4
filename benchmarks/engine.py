"""What continuous batching costs: the engine against a bare ``session.run`` loop.

    python benchmarks/engine.py BUNDLE [--rows 1 8 64] [--seconds 5] [--precision auto]

Both compute the same graph with the same number of rows and threads, in turns in one run, so
that the ratio holds whatever else the machine does. The bare loop does the least there is: it feeds
back the state, and draws no noise. The engine does all of its work: noise, joins and
leaves, budgets, pen time, and delivery to as many readers as there are rows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no stubs

from hitree import bundle as bundles
from hitree_server.engine import Engine, EngineSettings, Leaf, SequenceSpec
from hitree_server.engine.device import open_device
from hitree_server.engine.slots import Slots

if TYPE_CHECKING:
    from hitree.bundle import StepGraph

ROUNDS = 5  # each side runs this often, in turns; the medians are compared


def bare(path: Path, graph: StepGraph, rows: int, threads: int, seconds: float) -> float:
    """Rows a second of a loop around ``session.run``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    slots = Slots(graph, rows)
    slots.blank(slice(0, rows))
    feeds, names = slots.feeds(rows), [t.output for t in graph.state]
    steps, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        made = session.run([*names, "segment_end"], feeds)
        feeds.update(zip((t.name for t in graph.state), made, strict=False))
        steps += 1
    return steps * rows / spent


async def engine(path: Path, graph: StepGraph, rows: int, threads: int, seconds: float) -> float:
    """Rows a second of the engine with ``rows`` readers that ask again when they are done."""
    running = Engine(graph, open_device(path, "cpu", threads), EngineSettings(max_rows=rows))
    running.start()
    seeds = count()
    readers = [asyncio.create_task(_read(running, graph, seeds)) for _ in range(rows)]
    await asyncio.sleep(seconds / 10)
    made, began = running.stats.step_rows.total, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (running.stats.step_rows.total - made) / (time.perf_counter() - began)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await asyncio.to_thread(running.stop)
    return rate


async def _read(running: Engine, graph: StepGraph, seeds: count[int]) -> None:
    width = next(t.shape[0] for t in graph.inputs if t.name == "condition")
    for seed in seeds:
        rng = np.random.default_rng(seed)
        leaves = tuple(Leaf(n, rng.normal(size=width).astype(np.float32)) for n in range(1, 7))
        spec = SequenceSpec(str(seed), leaves, seed, max_points=300, max_points_leaf=100)
        async with running.submit(spec) as stream:
            async for _ in stream:
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto", help="of the step: fp32, int8, fp16")
    args = parser.parse_args()
    found = bundles.load(args.bundle)
    graph = found.manifest.decoder
    precision, file = graph.choose("cpu", args.precision)
    path = found.file(file)
    out = sys.stdout
    out.write(
        f"{found.manifest.version}, {precision}, onnxruntime {ort.__version__}, "
        f"{args.threads} thread(s)\n"
    )
    out.write("| rows | bare rows/s | engine rows/s | ratio |\n|---|---|---|---|\n")
    turn = args.seconds / ROUNDS
    for rows in args.rows:
        pairs = [
            (
                bare(path, graph, rows, args.threads, turn),
                asyncio.run(engine(path, graph, rows, args.threads, turn)),
            )
            for _ in range(ROUNDS)
        ]
        loop, ours = np.median(pairs, axis=0)
        out.write(f"| {rows} | {loop:,.0f} | {ours:,.0f} | {ours / loop:.2f} |\n")
        out.flush()


if __name__ == "__main__":
    main()
