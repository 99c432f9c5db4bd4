"""What continuous batching costs: the engine against a bare loop around the same step.

Both compute the same graph with the same number of rows and threads, in turns in one run, so that
the ratio holds whatever else the machine does. The bare loop does the least there is: it calls the
step and lets the state go round, with noise that was drawn before; every row that the graph
computes counts. The engine does all of its work: noise, joins and leaves, budgets, pen time, and
delivery to readers, of whom there are a quarter more than rows, so that rows do not wait for a
reader to ask again; points that are delivered count. What is drawn are plans of the bundle's own
planner: leaves drawn under other conditions are unnaturally short.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from hitree import bundle as bundles
from hitree.errors import InvalidInput
from hitree_server.app import settle
from hitree_server.backend import open_decoder
from hitree_server.drawing import LEAF_POINTS, TEMPERATURE
from hitree_server.engine import Engine, EngineSettings, Leaf, SequenceSpec
from hitree_server.engine.slots import Slots
from hitree_server.instruction import with_article
from hitree_server.models import Models
from hitree_server.planner import Planner
from hitree_server.settings import MOST_ROWS, Settings, bundle_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hitree.bundle import StepGraph
    from hitree.tree import Plan
    from hitree_server.engine import Device

ROUNDS = 9  # each side runs this often, in turns; medians of the rounds are told
SUBJECTS = 12  # whose plans are drawn
POINTS = 300  # of a drawing at most


def bench(
    *,
    bundle: Path | None = None,
    provider: str | None = None,
    precision: str | None = None,
    rows: Sequence[int] = (1, 8, 64, 256),
    seconds: float = 5.0,
) -> Iterator[str]:
    """Lines of a table, each as soon as it is measured; ``seconds`` are for each of its figures.

    Raises:
        HiTreeError: a setting is wrong, or the bundle cannot be served.
    """
    settings = Settings.of(bundle=bundle, provider=provider, precision=precision)
    if not all(1 <= size <= MOST_ROWS for size in rows):
        raise InvalidInput(f"rows are {', '.join(map(str, rows))}; give each from 1 to {MOST_ROWS}")
    found = bundles.load(bundle_path(settings))
    graph = found.manifest.decoder
    models = Models.load(found, settings.threads)
    plans = drawings(models)
    precision, device = open_decoder(found, settings)
    settle()  # as a server does
    yield f"{found.manifest.version}, {device.provider}, {precision}, threads: {settings.threads}"
    yield "| rows | bare rows/s | engine points/s | ratio |"
    yield "|---|---|---|---|"
    turn = seconds / ROUNDS
    for size in rows:
        pairs = [
            (
                bare(graph, device, plans, size, turn),
                asyncio.run(engine(graph, device, plans, size, turn)),
            )
            for _ in range(ROUNDS)
        ]
        loop, ours = np.median(pairs, axis=0)
        ratio = np.median([ours / loop for loop, ours in pairs])
        yield f"| {size} | {loop:,.0f} | {ours:,.0f} | {ratio:.2f} |"


def bare(
    graph: StepGraph, device: Device, plans: Sequence[SequenceSpec], rows: int, seconds: float
) -> float:
    """Stroke-5 rows a second of a loop around the step."""
    slots = Slots(graph, rows, device.store(graph, rows))
    noise = slots.inputs["noise"]
    noise[:] = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, noise.shape)
    slots.inputs["limit"][:], slots.inputs["begun"][:] = graph.stride, 1
    for row in range(rows):
        slots.inputs["condition"][row] = plans[row % len(plans)].leaves[0].condition
    slots.settle()
    calls = []
    for _ in "ab":
        calls.append(device.bind(slots.feeds(rows), slots.results(rows)))
        calls[-1]()  # the first call of each is slow
        slots.flip()
    steps, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        calls[steps % 2]()
        steps += 1
    return steps * rows * graph.stride / spent


async def engine(
    graph: StepGraph, device: Device, plans: Sequence[SequenceSpec], rows: int, seconds: float
) -> float:
    """Points a second of the engine with ``rows`` rows."""
    running = Engine(graph, device, EngineSettings(max_rows=rows, queue_limit=rows))
    running.start()
    seeds = count()
    wanted = rows + math.ceil(rows / 4)
    readers = [asyncio.create_task(_read(running, plans, seeds)) for _ in range(wanted)]
    await asyncio.sleep(seconds / 10)
    made, began = running.stats.points, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (running.stats.points - made) / (time.perf_counter() - began)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await asyncio.to_thread(running.stop)
    return rate


async def _read(running: Engine, plans: Sequence[SequenceSpec], seeds: count[int]) -> None:
    for seed in seeds:
        async with running.submit(replace(plans[seed % len(plans)], seed=seed)) as stream:
            async for _ in stream:
                pass


def drawings(models: Models) -> list[SequenceSpec]:
    """Plans of several subjects, to be drawn as the service has them drawn."""
    planner = Planner(models)
    plans = [planner.plan(f"draw {with_article(s)}", seed=0) for s in models.subjects[:SUBJECTS]]
    return [_drawing(models, plan) for plan in plans]


def _drawing(models: Models, plan: Plan) -> SequenceSpec:
    conditions = models.conditions([plan.stack(leaf.id) for leaf in plan.leaves], plan.subject)
    return SequenceSpec(
        plan.subject,
        tuple(Leaf(node.id, each) for node, each in zip(plan.leaves, conditions, strict=True)),
        seed=0,
        max_points=POINTS,
        max_points_leaf=int(models.settings.get("max_points_leaf", LEAF_POINTS)),
        temperature=models.settings.get("temperature", TEMPERATURE),
    )
