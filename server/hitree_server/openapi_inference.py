"""What the OpenAPI document tells of the Open Inference Protocol, see `hitree_server.inference`."""

from __future__ import annotations

from typing import Any  # JSON

from hitree_server.inference import JSON_LENGTH, PREFIX, InferRequest
from hitree_server.openapi import Json, errors, headers, object_schema, ref

NAME = "^[A-Za-z0-9._+-]+$"  # of a model or a version

_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}
_SHAPE: Json = {"type": "array", "items": {"type": "integer"}}
_JSON = "application/json"
_BINARY = "application/octet-stream"  # JSON, and behind it the tensors that are wanted as bytes
_MODELS = {
    f"{PREFIX}/models/{{model}}": ("model",),
    f"{PREFIX}/models/{{model}}/versions/{{version}}": ("model", "version"),
}
_LENGTH: Json = {
    JSON_LENGTH: {
        "description": "Bytes of JSON at the beginning of the body, where tensors follow it",
        "schema": {"type": "integer", "minimum": 0},
    }
}


def _schemas() -> Json:
    request = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    tensor = {"name": _TEXT, "datatype": {"enum": ["FP32", "INT64"]}, "shape": _SHAPE}
    made = {**tensor, "data": {"type": "array", "items": {"type": "number"}}}
    size = object_schema({"binary_data_size": {"type": "integer", "minimum": 0}})
    return {
        **request.pop("$defs"),
        "InferRequest": request,
        "InferResponse": object_schema(
            {
                "model_name": _TEXT,
                "model_version": _TEXT,
                "id": _TEXT,
                "outputs": _list(object_schema({**made, "parameters": size}, tuple(tensor))),
            },
            ("model_name", "model_version", "outputs"),
        ),
        "ModelMetadata": _whole(
            name=_TEXT,
            versions=_list(_TEXT),
            platform=_TEXT,
            inputs=_list(ref("TensorMetadata")),
            outputs=_list(ref("TensorMetadata")),
        ),
        "TensorMetadata": _whole(**tensor),
        "ServerMetadata": _whole(name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
        "ServerLive": _whole(live=_FLAG),
        "ServerReady": _whole(ready=_FLAG),
        "InferError": _whole(error=_TEXT),
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _whole(**properties: Any) -> Json:
    """An object that has all of its properties."""
    return object_schema(properties, tuple(properties))


def _paths() -> Json:
    away = "The service is starting or stopping"
    ready = {"503": _response(away, ref("ServerReady"))}
    either = {"503": _response(away, {"anyOf": [ref("ServerReady"), ref("InferError")]})}
    paths: Json = {
        PREFIX: _get("ServerMetadata", "What this is"),
        f"{PREFIX}/health/live": _get("ServerLive", "Whether the process lives"),
        f"{PREFIX}/health/ready": _get("ServerReady", "Whether calls are welcome", ready),
    }
    known = errors("InferError")
    for model, places in _MODELS.items():
        named = {"parameters": [_place(name) for name in places]}
        paths |= {
            model: named | _get("ModelMetadata", "What a raw model reads and writes", known),
            f"{model}/ready": named
            | _get("ServerReady", "Whether it may be asked", known | either),
            f"{model}/infer": named | {"post": _infer()},
        }
    return paths


def _get(reply: str, text: str, more: Json | None = None) -> Json:
    found = {"200": _response(text, ref(reply))}
    return {"get": {"summary": text, "responses": found | (more or {})}}


def _infer() -> Json:
    content: Json = {_JSON: {"schema": ref("InferResponse")}, _BINARY: {}}
    return {
        "summary": "Run a raw model once",
        "parameters": [*headers(), *headers(_LENGTH)],
        "requestBody": {"required": True, "content": {_JSON: {"schema": ref("InferRequest")}}},
        "responses": {
            "200": {"description": "What it made", "content": content},
            **errors("InferError"),
        },
    }


def _response(text: str, schema: Json) -> Json:
    return {"description": text, "content": {_JSON: {"schema": schema}}}


def _place(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {**_TEXT, "pattern": NAME}}


SCHEMAS = _schemas()
PATHS = _paths()
