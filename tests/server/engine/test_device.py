"""The device on ONNX Runtime, with a real graph of the decoder's names."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from fakes import SteppedEngine, points, spec, write_step_graph
from hitree.errors import BundleCorrupt, MissingPackage, Unavailable
from hitree_server.engine import Engine, EngineSettings, Leaf
from hitree_server.engine.device import OnnxDevice, available, choose, open_device
from hitree_server.engine.slots import Slots

BOTH = ("cpu", "cuda")


def drawing(seed: int):
    rng = np.random.default_rng(seed)
    leaves = tuple(Leaf(n, rng.normal(size=16).astype(np.float32)) for n in range(1, 4))
    return spec(seed, leaves=leaves)


async def test_a_drawing_is_bit_equal_alone_and_among_63_staggered_others(tmp_path):
    graph = write_step_graph(tmp_path / "decoder_step.onnx")
    device = open_device(tmp_path / graph.file, "cpu", threads=1)
    specs = [drawing(seed) for seed in range(64)]
    alone = []
    for one in specs[::9]:
        engine = SteppedEngine(graph, device)
        engine.start()
        stream = engine.submit(one)
        engine.run()
        alone.append([e async for e in stream])
    crowd = SteppedEngine(graph, device, EngineSettings(max_rows=48))
    crowd.start()
    streams = []
    for index, one in enumerate(specs):
        streams.append(crowd.submit(one))
        if index % 3 == 0:
            crowd.tick()
    crowd.run()
    for expected, stream in zip(alone, streams[::9], strict=True):
        events = [e async for e in stream]
        assert points(events).tobytes() == points(expected).tobytes()
        assert len(points(events)) > 3
    assert crowd.stats.step_rows.mean > 16


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_a_bound_call_reads_and_writes_the_arrays_themselves(tmp_path, provider):
    graph = write_step_graph(tmp_path / "decoder_step.onnx")
    device = open_device(tmp_path / graph.file, "cpu", threads=1)
    # What is done for CUDA, host arrays bound anew for every step, works on any provider.
    device = OnnxDevice(device._session, provider)
    slots = Slots(graph, 2)
    results = slots.results(2)
    call = device.bind(slots.feeds(2), results)
    call()
    first = results["h_out"].copy()
    assert first.any()
    slots.feeds(2)["h"][1] = 0.9
    call()
    assert np.array_equal(results["h_out"][0], first[0])
    assert not np.array_equal(results["h_out"][1], first[1])


def test_the_engine_tells_where_it_computes(tmp_path):
    graph = write_step_graph(tmp_path / "decoder_step.onnx")
    device = open_device(tmp_path / graph.file, "cpu", threads=1)
    assert device.provider == Engine(graph, device).provider == "cpu"
    assert "cpu" in available()


def test_auto_takes_cuda_where_it_is():
    assert choose("auto", BOTH) == "cuda"
    assert choose("auto", BOTH[:1]) == "cpu"
    assert choose("cpu", BOTH) == "cpu"


def test_cuda_without_a_gpu_says_what_to_install():
    with pytest.raises(Unavailable, match="server-gpu"):
        choose("cuda", BOTH[:1])


def test_a_file_that_is_no_graph_is_corrupt(tmp_path):
    path = tmp_path / "decoder_step.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(BundleCorrupt, match=r"decoder_step\.onnx cannot be loaded"):
        open_device(path, "cpu", threads=1)


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackage, match=r"hitree\[server\]"):
        open_device(tmp_path / "decoder_step.onnx", "cpu")
