"""Triton through PyTriton, decoupled (a request has many responses), in one of two ways.

``PEER_BATCHED=drawings``: Triton's dynamic batcher gathers up to 64 requests, and a generator draws
them from the first point to the last, the documented way; PyTriton ends their streams together, and
whoever comes later is in another batch, which runs beside it. ``steps``: without Triton's batcher;
each request is an asynchronous generator, and a stepper written for the purpose makes the steps of
all of them at once (`stepper.Stepper`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from drawing import ROWS, Job, Sketch, Studio
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from stepper import Stepper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from numpy.typing import NDArray
    from pytriton.proxy.types import Request

    Responses = list[dict[str, NDArray[np.int32]]]  # one for each request

WAIT_MICROSECONDS = 30_000  # how long a batch of drawings waits for more of them
NOTHING = np.full((1, 4), -1, np.int32)  # PyTriton sends no empty arrays


class BatchedSteps:
    config = ModelConfig(batching=False, decoupled=True)

    def __init__(self, studio: Studio) -> None:
        self._stepper = Stepper(studio.batch())

    async def __call__(self, requests: list[Request]) -> AsyncIterator[Responses]:
        (request,) = requests  # without batching there is one
        async for sketch in self._stepper.draw(_job(request)):
            yield [{"points": _taken(sketch)}]


class BatchedDrawings:
    config = ModelConfig(
        batching=True,
        max_batch_size=ROWS,
        batcher=DynamicBatcher(max_queue_delay_microseconds=WAIT_MICROSECONDS),
        decoupled=True,
    )

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def __call__(self, requests: list[Request]) -> Iterator[Responses]:
        batch = self._studio.batch(len(requests))
        sketches = [batch.join(_job(request)) for request in requests]
        for _ in batch.bursts():
            yield [{"points": _taken(sketch)[None]} for sketch in sketches]


def _job(request: Request) -> Job:
    return Job.of(json.loads(request["request"].item()))


def _taken(sketch: Sketch) -> NDArray[np.int32]:
    points = sketch.take()
    return points if len(points) else NOTHING


if __name__ == "__main__":
    port = int(os.environ["PEER_PORT"])
    server = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=port,
        http_address="127.0.0.1",
        http_port=port + 1,
        allow_metrics=False,
    )
    chosen = {"steps": BatchedSteps, "drawings": BatchedDrawings}[os.environ["PEER_BATCHED"]]
    with Triton(config=server) as triton:
        triton.bind(
            model_name="sketcher",
            infer_func=chosen(Studio(Path(os.environ["PEER_BUNDLE"]))),
            inputs=[Tensor(name="request", dtype=np.bytes_, shape=(1,))],
            outputs=[Tensor(name="points", dtype=np.int32, shape=(-1, 4))],
            config=chosen.config,
        )
        triton.serve()
