"""The Python that the design promises, word for word, and its asyncio twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import hitree_sdk
from hitree import codec
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import _transport
from sdk.fakes import PLAN, AsyncFakeTransport, FakeTransport, Script, drawing_events, wired

if TYPE_CHECKING:
    from pathlib import Path

PROMISED = """
import hitree_sdk

client = hitree_sdk.Client()                 # HITREE_URL if set, else the embedded engine in this process
plan = client.plan("draw a flamingo")
print(plan)                                  # the tree, readable in a terminal
with client.draw(plan, seed=7) as stream:    # events as they are drawn; leaving the block cancels
    for event in stream:
        ...
sketch = stream.result()
sketch.save("flamingo.svg")                  # also .png, .ndjson; shows itself in a notebook
tree = client.annotate(sketch)               # the instruction tree behind a drawing
"""  # noqa: E501  # word for word


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """A fake service behind the entry point of the embedded engine; a folder to work in."""
    drawn = PLAN.with_spans({1: (0, 2), 2: (2, 3)})
    script = Script(
        [
            pb.PlanResponse(plan=codec.plan_to_wire(PLAN)),
            wired(drawing_events()),
            pb.AnnotateResponse(tree=codec.plan_to_wire(drawn)),
        ]
    )

    class Engine:
        sync = FakeTransport(script)
        aio = AsyncFakeTransport(script)

    class Entry:
        def load(self) -> type[Engine]:
            return Engine

    monkeypatch.setattr(_transport, "entry_points", lambda **_: [Entry()])
    monkeypatch.chdir(tmp_path)
    return script


def test_the_promise(script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(PROMISED, names)
    assert capsys.readouterr().out == f"{PLAN}\n"
    assert [method for method, _, _ in script.calls] == ["Plan", "Draw", "Annotate"]
    sketch, tree = names["sketch"], names["tree"]
    assert isinstance(sketch, hitree_sdk.Sketch)
    assert isinstance(tree, hitree_sdk.Plan)
    assert tree.nodes == sketch.plan.nodes
    assert len(hitree_sdk.Sketch.load(tmp_path / "flamingo.svg").strokes) == 3


async def test_the_promise_for_asyncio(script: Script) -> None:
    client = hitree_sdk.AsyncClient()
    plan = await client.plan("draw a flamingo")
    async with client.draw(plan, seed=7) as stream:
        async for _ in stream:
            ...
    sketch = await stream.result()
    tree = await client.annotate(sketch)
    assert tree.nodes == sketch.plan.nodes
    assert [method for method, _, _ in script.calls] == ["Plan", "Draw", "Annotate"]
