"""The Open Inference Protocol over HTTP, with the binary tensor extension.

A body is JSON; with the header ``inference-header-content-length`` it is so many bytes of JSON and
then the tensors that say ``binary_data_size``, one after another. Stock clients send and expect
that form by default.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any  # Any: JSON

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from hitree.errors import HiTreeError, InvalidInput, Unavailable
from hitree.limits import LIMITS
from hitree_server.incoming import admitted, body_of, call_of, error_headers, told_of
from hitree_server.raw import PLATFORM, RANK, check_names, tensor
from hitree_server.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from hitree_server.calls import Call
    from hitree_server.raw import Array, RawModel, TensorInfo
    from hitree_server.service import Service

    Handler = Callable[[Request], Awaitable[Response]]

PREFIX = "/v2"
JSON_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
TENSORS = 256  # of a request; no graph has as many


class _Strict(BaseModel):
    """Takes no text for a number."""

    model_config = ConfigDict(strict=True)


class InferParameters(_Strict):
    """What we heed of a tensor's or a request's parameters; others are for other servers."""

    binary_data: bool | None = None
    binary_data_size: int | None = Field(default=None, ge=0)
    binary_data_output: bool = False


class InferInput(_Strict):
    """A tensor that comes."""

    name: str
    datatype: str
    shape: Annotated[list[int], Field(max_length=RANK), FailFast()]
    data: list[Any] | None = None  # nested or flat
    parameters: InferParameters = InferParameters()


class InferOutput(_Strict):
    """A tensor that is wanted."""

    name: str
    parameters: InferParameters = InferParameters()


class InferRequest(_Strict):
    """The JSON of an inference request."""

    id: str = Field("", max_length=LIMITS.text_characters)  # comes back
    inputs: Annotated[list[InferInput], Field(max_length=TENSORS), FailFast()]
    outputs: Annotated[list[InferOutput], Field(max_length=TENSORS), FailFast()] = []
    parameters: InferParameters = InferParameters()


def routes(service: Service) -> list[BaseRoute]:
    """The protocol's paths."""
    door = _Door(service)
    inner: list[BaseRoute] = [
        Route("/health/live", door.live),
        Route("/health/ready", door.ready),
    ]
    for named in ("/models/{model}", "/models/{model}/versions/{version}"):
        inner += [
            Route(named, _answering(door.model)),
            Route(f"{named}/ready", _answering(door.model_ready)),
            Route(f"{named}/infer", _answering(door.infer), methods=["POST"]),
        ]
    # Mounted, so that another method of a path is refused as such, and not sought among the files.
    return [Route(PREFIX, door.server), Mount(PREFIX, routes=inner)]


def _answering(handle: Handler) -> Handler:
    """Errors in the protocol's own body: ``{"error": "what happened"}``."""

    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except HiTreeError as exc:
            headers = error_headers(exc) | told_of(request)
            return JSONResponse({"error": exc.message}, exc.http_status, headers)

    return answer


class _Door:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def server(self, _: Request) -> Response:
        """What this is."""
        return JSONResponse({"name": "hitree", "version": VERSION, "extensions": EXTENSIONS})

    async def live(self, _: Request) -> Response:
        """That the process lives."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """Whether calls are welcome."""
        ready = self._service.ready
        return JSONResponse({"ready": ready}, 200 if ready else Unavailable.http_status)

    async def model(self, request: Request) -> Response:
        """What a model reads and writes."""
        found = self._model(request)
        return JSONResponse(
            {
                "name": found.name,
                "versions": self._service.versions,
                "platform": PLATFORM,
                "inputs": [_metadata(one) for one in found.inputs],
                "outputs": [_metadata(one) for one in found.outputs],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """Whether a model may be asked."""
        self._model(request)
        return await self.ready(request)

    async def infer(self, request: Request) -> Response:
        """Run a model."""
        call = call_of(request)
        with admitted("ModelInfer", request, call, self._service):
            body = await body_of(request, call, self._service)
            ask, rest = _parsed(body, request.headers.get(JSON_LENGTH))
            return await self._infer(request, ask, rest, call)

    async def _infer(
        self, request: Request, ask: InferRequest, rest: bytes, call: Call
    ) -> Response:
        name, version = request.path_params["model"], request.path_params.get("version", "")
        wanted = [one.name for one in ask.outputs]
        made = await self._service.infer(name, version, partial(_tensors, ask, rest), wanted, call)
        head = {"model_name": name, "model_version": made.version}
        return _reply(head | ({"id": ask.id} if ask.id else {}), ask, made.outputs)

    def _model(self, request: Request) -> RawModel:
        found: dict[str, str] = request.path_params
        return self._service.raw(found.get("version", "")).get(found["model"])


def _parsed(body: bytes, length: str | None) -> tuple[InferRequest, bytes]:
    """The JSON of a body, and the bytes behind it.

    Raises:
        InvalidInput: it is no request.
    """
    try:
        cut = len(body) if length is None else int(length)
        if not 0 <= cut <= len(body):
            raise ValueError(f"{JSON_LENGTH} is {cut}, the body has {len(body)} bytes")
        return InferRequest.model_validate_json(body[:cut]), body[cut:]
    except ValidationError as exc:
        errors = [(".".join(map(str, e["loc"])), e["msg"]) for e in exc.errors(include_url=False)]
        said = "; ".join(f"{place}: {message}" if place else message for place, message in errors)
        raise InvalidInput(f"the body is no inference request: {said[:500]}") from exc
    except ValueError as exc:
        raise InvalidInput(f"the body is no inference request: {exc}") from exc


def _tensors(ask: InferRequest, rest: bytes) -> dict[str, Array]:
    """The tensors of a request, from JSON and from what follows it.

    Raises:
        InvalidInput: a tensor has no data, or bytes are missing or left over.
    """
    check_names(one.name for one in ask.inputs)
    made, at = {}, 0
    for one in ask.inputs:
        size = one.parameters.binary_data_size
        if (size is None) == (one.data is None):
            raise InvalidInput(f"{one.name} has to have either data or binary_data_size")
        if size is None:
            made[one.name] = tensor(one.name, one.datatype, one.shape, _flat(one))
        else:
            made[one.name] = tensor(one.name, one.datatype, one.shape, rest[at : at + size])
            at += size
    if at != len(rest):
        raise InvalidInput(f"{len(rest)} bytes follow the JSON, its tensors have {at}")
    return made


def _flat(one: InferInput) -> list[Any]:
    """A tensor's elements; JSON may nest them."""
    flat: list[Any] = one.data or []
    for _ in range(RANK):  # what is nested deeper is no number, and refused as such
        if set(map(type, flat)) != {list}:
            break
        flat = list(chain.from_iterable(flat))
    return flat


def _reply(
    head: dict[str, str], ask: InferRequest, made: list[tuple[TensorInfo, Array]]
) -> Response:
    """JSON, and behind it the tensors that are wanted as bytes."""
    binary = {one.name: one.parameters.binary_data for one in ask.outputs}
    outputs, blobs = [], []
    for info, array in made:
        told: dict[str, Any] = {
            "name": info.name, "datatype": info.datatype, "shape": list(array.shape),
        }  # fmt: skip
        chosen = binary.get(info.name)
        if ask.parameters.binary_data_output if chosen is None else chosen:
            blobs.append(array.tobytes())
            told["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            told["data"] = _finite(array).ravel().tolist()
        outputs.append(told)
    text = json.dumps({**head, "outputs": outputs}).encode()
    if not blobs:
        return Response(text, media_type="application/json")
    return Response(
        text + b"".join(blobs),
        media_type="application/octet-stream",
        headers={JSON_LENGTH: str(len(text))},
    )


def _finite(array: Array) -> Array:
    """JSON has no numbers for what is not finite."""
    if not np.isfinite(array).all():
        raise InvalidInput(
            "of these tensors the model made numbers that JSON does not have; ask for binary data"
        )
    return array


def _metadata(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "datatype": info.datatype, "shape": list(info.shape)}
