"""BentoML as it is meant for streams: one generator for each request, each on a thread.

Its adaptive batching gathers requests, not steps of requests that run, so that every drawing is
stepped alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator  # noqa: TC003 - BentoML reads the annotation
from pathlib import Path
from typing import Any

import bentoml
from drawing import ROWS, Job, Studio


@bentoml.service(
    workers=1, threads=ROWS, traffic={"timeout": 600}, logging={"access": {"enabled": False}}
)
class Sketcher:
    def __init__(self) -> None:
        self._studio = Studio(Path(os.environ["PEER_BUNDLE"]))

    @bentoml.api
    def draw(self, request: dict[str, Any], /) -> Generator[str, None, None]:
        batch = self._studio.batch(rows=1)
        sketch = batch.join(Job.of(request))
        while not sketch.done:
            if batch.step():
                yield sketch.line()
