"""Writes the requests of a measurement, and what must come back.

    python benchmarks/peers/prepare.py BUNDLE FILE

The plans are the service's own, for prompts of one subject each; every plan is drawn with many
seeds. The engine draws them all once, so that each drawing of a measurement can be checked. Peers
are sent what the bundle's encoder makes of a plan's texts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from asked import Asked, checksum

from hitree import bundle as bundles
from hitree.codec import plan_to_wire
from hitree.v1 import hitree_pb2 as pb
from hitree_server import intake
from hitree_server.calls import Call
from hitree_server.drawing import Job
from hitree_server.engine import Engine, PointsMade
from hitree_server.engine.device import open_device
from hitree_server.models import Models
from hitree_server.planner import Planner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hitree.bundle import Bundle
    from hitree.tree import Plan
    from hitree_server.engine import SequenceSpec

PLANS = 16
SEEDS = 32  # of each plan
MAX_POINTS = 220  # of a drawing
GRID = 4  # steps of the grid in a unit


def write(folder: Path, file: Path) -> Asked:
    """Make the requests of a bundle and save them."""
    bundle = bundles.load(folder)
    models = Models.load(bundle, threads=1)
    jobs = [job(models, plan, seed) for plan, seed in _turns(bundle, Planner(models))]
    specs = [one.sequence(0, bundle.manifest.settings) for one in jobs]
    drawn = asyncio.run(_draw(bundle, specs))
    asked = Asked(
        wire=[_request(one.plan, one.ask.ask.seed).SerializeToString() for one in jobs],
        peers=[peer_request(spec) for spec in specs],
        sums=[checksum(points) for points in drawn],
        points=[len(points) for points in drawn],
    )
    asked.save(file)
    return asked


def job(models: Models, plan: Plan, seed: int) -> Job:
    """What the service makes of a request to draw a plan."""
    ask = intake.draw_ask(_request(plan, seed))
    stacks = [plan.stack(leaf.id) for leaf in plan.leaves]
    return Job(Call.of("grpc"), ask, plan, models.conditions(stacks, plan.subject))


def peer_request(spec: SequenceSpec) -> dict[str, Any]:
    """The same for a peer."""
    raw = np.stack([leaf.condition for leaf in spec.leaves]).astype(np.float32).tobytes()
    return {
        "seed": spec.seed,
        "temperature": spec.temperature,
        "max_points": spec.max_points,
        "max_points_leaf": spec.max_points_leaf,
        "nodes": [leaf.node for leaf in spec.leaves],
        "conditions": base64.b64encode(raw).decode(),
    }


async def draw(engine: Engine, spec: SequenceSpec) -> NDArray[np.int32]:
    """The points of a drawing, (N, 4), see `asked.checksum`."""
    parts = []
    async with engine.submit(spec) as stream:
        async for event in stream:
            if isinstance(event, PointsMade):
                part = np.empty((len(event.positions), 4), np.int32)
                part[:, :2] = event.positions * GRID
                part[:, 2], part[:, 3] = event.stroke, spec.leaves[event.leaf].node
                parts.append(part)
    return np.concatenate(parts)


def _turns(bundle: Bundle, planner: Planner) -> list[tuple[Plan, int]]:
    """Plans and seeds, the plans in turns."""
    subjects = bundle.manifest.subjects[:: max(1, len(bundle.manifest.subjects) // PLANS)][:PLANS]
    plans = [planner.plan(f"draw a {subject}", seed=1) for subject in subjects]
    return [(plan, seed) for seed in range(SEEDS) for plan in plans]


def _request(plan: Plan, seed: int) -> pb.DrawRequest:
    return pb.DrawRequest(plan=plan_to_wire(plan), seed=seed, max_points=MAX_POINTS, grouped=True)


async def _draw(bundle: Bundle, specs: list[SequenceSpec]) -> list[NDArray[np.int32]]:
    graph = bundle.manifest.decoder
    engine = Engine(graph, open_device(bundle.file(graph.choose("cpu")[1]), "cpu", threads=1))
    engine.start()
    rows = asyncio.Semaphore(engine.settings.max_rows)

    async def one(spec: SequenceSpec) -> NDArray[np.int32]:
        async with rows:
            return await draw(engine, spec)

    try:
        return await asyncio.gather(*(one(spec) for spec in specs))
    finally:
        await asyncio.to_thread(engine.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    write(args.bundle, args.file)


if __name__ == "__main__":
    main()
