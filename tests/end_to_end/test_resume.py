"""A real decoder's drawing over a line that breaks again and again is the drawing it would be."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bundles import tiny_bundle
from hitree.errors import Unavailable
from hitree_sdk import Client
from hitree_server.backend import load
from hitree_server.local import EmbeddedSync, Home
from hitree_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from hitree.v1 import hitree_pb2 as pb

PROMPTS = ("draw a flamingo", "draw a cat", "draw a snail")


class Breaking:
    """Breaks every stream off after ``every`` events, until ``times`` have broken."""

    def __init__(self, whole: EmbeddedSync, every: int, times: int) -> None:
        self._whole, self._every, self.left = whole, every, times

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        return self._whole.unary(method, request, timeout=timeout)

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        with closing(self._whole.stream(method, request, timeout=timeout)) as events:
            for number, event in enumerate(events):
                if self.left and number >= self._every:
                    self.left -= 1
                    raise Unavailable("the line broke")
                yield event

    def close(self) -> None:
        self._whole.close()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    settings = Settings(bundle=tiny_bundle().path, provider="cpu")
    other = load(settings.model_copy(update={"precision": "fp32"}))  # draws something else
    other = replace(other, manifest=replace(other.manifest, version="2"))
    made = Home([load(settings), other], settings)
    yield made
    made.close()


@pytest.mark.parametrize("canvas", [None, [[[40, 40], [90, 60]], [[100, 100]]]])
@pytest.mark.parametrize(("every", "bundle"), [(3, None), (5, None), (8, None), (5, "@2")])
def test_a_line_that_breaks_changes_nothing(
    home: Home,
    every: int,
    bundle: str | None,
    canvas: list[list[list[int]]] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hitree_sdk._stream.sleep", lambda _: None)
    whole = EmbeddedSync(lambda: home)
    for seed, prompt in enumerate(PROMPTS):
        client = Client(transport=whole, bundle=bundle)
        expected = client.draw(prompt, seed=seed, canvas=canvas).result()
        line = Breaking(whole, every, times=9)
        client = Client(transport=line, retries=10, bundle=bundle)
        sketch = client.draw(prompt, seed=seed, canvas=canvas).result()
        assert line.left < 9
        assert sketch.plan == expected.plan
        assert len(sketch.strokes) == len(expected.strokes)
        for got, drawn in zip(sketch.strokes, expected.strokes, strict=True):
            assert np.asarray(got).tobytes() == np.asarray(drawn).tobytes()
