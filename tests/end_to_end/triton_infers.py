"""Infers every raw model with NVIDIA's stock client: ``python triton_infers.py GRPC HTTP``.

Needs ``tritonclient[grpc,http]`` in an environment of its own: its messages have the names of
ours. Addresses are ``host:port``. Both doors, and both forms over HTTP, must give the same numbers.
"""

import sys
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

MODELS = (
    "classifier", "condition", "decoder_step", "generator_describe", "generator_expand",
    "generator_step", "scorer_segments", "scorer_texts", "scorer_unity",
)  # fmt: skip


def main(grpc: str, http: str) -> None:
    """Ask everything that the client can ask."""
    by_grpc = tritonclient.grpc.InferenceServerClient(grpc)
    by_http = tritonclient.http.InferenceServerClient(http)
    for client in (by_grpc, by_http):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert not client.is_model_ready("nothing")
    assert by_grpc.get_server_metadata(as_json=True)["name"] == "hitree"
    assert by_http.get_server_metadata()["name"] == "hitree"
    for name in MODELS:
        told = by_http.get_model_metadata(name)
        assert by_grpc.is_model_ready(name, told["versions"][0])
        assert by_grpc.get_model_metadata(name, as_json=True)["name"] == name
        feed = {one["name"]: values(one) for one in told["inputs"]}
        outputs = [one["name"] for one in told["outputs"]]
        first = infer(by_grpc, tritonclient.grpc, name, feed, outputs)
        for binary in (True, False):
            again = infer(by_http, tritonclient.http, name, feed, outputs, binary_data=binary)
            for output in outputs:
                np.testing.assert_array_equal(first[output], again[output])
        print(name, {output: made.shape for output, made in first.items()})  # noqa: T201 - a script


def values(told: dict[str, Any]) -> np.ndarray:
    """Numbers that a tensor may hold."""
    shape = [3 if length < 0 else length for length in told["shape"]]
    if told["name"] == "spans":
        return np.array([[0, 1], [1, 2], [0, 3]], np.int64)
    if told["datatype"] == "INT64":
        return np.ones(shape, np.int64)
    return np.linspace(0.1, 0.9, num=int(np.prod(shape)), dtype=np.float32).reshape(shape)


def infer(
    client: Any, api: Any, name: str, feed: dict[str, np.ndarray], outputs: list[str], **form: bool
) -> dict[str, np.ndarray]:
    """The outputs of a model."""
    inputs = []
    for tensor, array in feed.items():
        datatype = "INT64" if array.dtype == np.int64 else "FP32"
        made = api.InferInput(tensor, list(array.shape), datatype)
        made.set_data_from_numpy(array, **form)
        inputs.append(made)
    wanted = [api.InferRequestedOutput(output, **form) for output in outputs]
    reply = client.infer(name, inputs, outputs=wanted, request_id="stock")
    return {output: reply.as_numpy(output) for output in outputs}


if __name__ == "__main__":
    main(*sys.argv[1:])
