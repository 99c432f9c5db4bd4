"""LitServe with its continuous batching loop: drawings join and leave between steps.

The loop runs in a worker process: one thread calls `Sketcher.step` while another waits for
requests and hands them to `Sketcher.add_request`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import litserve
from drawing import Job, Studio
from litserve.loops.continuous_batching_loop import ContinuousBatchingLoop, Output
from litserve.utils import LitAPIStatus


class Sketcher(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self._batch = Studio(Path(os.environ["PEER_BUNDLE"])).batch()

    def add_request(self, uid: str, request: dict[str, Any]) -> None:
        self._batch.join(Job.of(request), uid)

    def has_capacity(self) -> bool:
        return True  # the batch has a queue; one that the loop keeps waits for a second at a time

    def has_active_requests(self) -> bool:
        return self._batch.live > 0

    def step(self, previous: list[Output] | None) -> list[Output]:  # noqa: ARG002 - as above
        # The loop takes an empty answer for a fault and sleeps, so that it gets none.
        while not (sketches := self._batch.step()):
            pass
        outputs = []
        for sketch in sketches:
            outputs.append(Output(sketch.name, sketch.line(), LitAPIStatus.OK))
            if sketch.done:
                outputs.append(Output(sketch.name, "", LitAPIStatus.FINISH_STREAMING))
        return outputs


if __name__ == "__main__":
    api = Sketcher(stream=True, loop=ContinuousBatchingLoop())
    server = litserve.LitServer(api, accelerator="cpu", timeout=False, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
