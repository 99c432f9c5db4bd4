"""The Open Inference Protocol over gRPC: the raw models for stock clients."""

# ruff: noqa: N802, ARG002  # the names and the shape of the RPCs

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hitree.errors import HiTreeError, InvalidInput
from hitree.oip import inference_pb2 as pb
from hitree.oip import inference_pb2_grpc as pb_grpc
from hitree_server.calls import observed
from hitree_server.intake import check_size, check_tag
from hitree_server.raw import PLATFORM, check_names, tensor
from hitree_server.rpc.errors import abort
from hitree_server.rpc.service import admitted, call_of, check_read, sent_along, tell_id
from hitree_server.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree_server.calls import Call
    from hitree_server.raw import Array, TensorInfo
    from hitree_server.rpc.service import Context
    from hitree_server.service import Service

NAME = "hitree"
_CONTENTS = {"FP32": "fp32_contents", "INT64": "int64_contents"}


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """The raw models of a `Service`; health and metadata need no key."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._service.ready)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=VERSION)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        try:
            check_read(request)
            self._service.raw(request.version).get(request.name)
        except HiTreeError as exc:
            if exc.grpc_code != "NOT_FOUND":
                await abort(context, exc)
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._service.ready)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        try:
            check_read(request)
            model = self._service.raw(request.version).get(request.name)
        except HiTreeError as exc:
            await abort(context, exc)
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=self._service.versions,
            platform=PLATFORM,
            inputs=map(_metadata, model.inputs),
            outputs=map(_metadata, model.outputs),
        )

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        sent = sent_along(context)
        call = call_of(context, sent)
        try:
            with (
                observed("ModelInfer", call, self._service.metrics),
                admitted(sent, self._service),
            ):
                check_read(request)
                check_size(request)
                check_tag(request.id, "id")
                reply = await self._infer(request, call)
                await tell_id(context, call)
                return reply
        except HiTreeError as exc:
            await abort(context, exc, call.request_id)

    async def _infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        wanted = [one.name for one in request.outputs]
        made = await self._service.infer(
            request.model_name, request.model_version, partial(_tensors, request), wanted, call
        )
        return pb.ModelInferResponse(
            model_name=request.model_name,
            model_version=made.version,
            id=request.id,
            outputs=[
                pb.ModelInferResponse.InferOutputTensor(
                    name=info.name, datatype=info.datatype, shape=array.shape
                )
                for info, array in made.outputs
            ],
            raw_output_contents=[array.tobytes() for _, array in made.outputs],
        )


def _metadata(info: TensorInfo) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=info.name, datatype=info.datatype, shape=info.shape
    )


def _tensors(request: pb.ModelInferRequest) -> dict[str, Array]:
    """The tensors of a request.

    Raises:
        InvalidInput: they come both raw and typed, or not one for each input.
    """
    raw: Sequence[bytes | None] = request.raw_input_contents or [None] * len(request.inputs)
    if len(raw) != len(request.inputs):
        raise InvalidInput(
            f"there are {len(request.inputs)} inputs and {len(raw)} raw contents; send one for each"
        )
    check_names(one.name for one in request.inputs)
    pairs = zip(request.inputs, raw, strict=True)
    return {one.name: tensor(one.name, one.datatype, one.shape, _data(one, d)) for one, d in pairs}


def _data(
    one: pb.ModelInferRequest.InferInputTensor, raw: bytes | None
) -> bytes | Sequence[float] | Sequence[int]:
    if raw is None:
        field = _CONTENTS.get(one.datatype, "bytes_contents")
        found: Sequence[float] | Sequence[int] = getattr(one.contents, field)
        return found
    if one.HasField("contents"):
        raise InvalidInput(f"{one.name} comes both raw and in contents; send it once")
    return raw
