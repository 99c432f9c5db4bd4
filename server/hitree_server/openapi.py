"""The OpenAPI document of the HTTP door, made from the wire's own descriptors.

It describes what `hitree.jsonwire` reads and writes, by the same rules, so that it cannot fall
behind the proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast  # Any: JSON

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from hitree.errors import BY_REASON
from hitree.v1 import hitree_pb2 as pb
from hitree_server.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

Json = dict[str, Any]

REQUEST_ID = "x-request-id"
TIMEOUT = "x-hitree-timeout-ms"
HEADERS = {
    REQUEST_ID: "Names the call in logs; comes back with the reply; made up where it is missing",
    TIMEOUT: "Milliseconds that the whole call may take",
}
LAST_EVENT_ID = "last-event-id"

_NUMBERS: dict[int, Json] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_PAIR: Json = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_PAIRS: Json = {
    "type": "array",
    "items": _PAIR,
    "minItems": 1,
    "description": "[x, y] pairs in units of the frame (256 x 256, origin top left)",
}


@dataclass(frozen=True)
class Operation:
    """One endpoint that answers with messages."""

    verb: Literal["get", "post"]
    path: str
    name: str  # of the RPC, "Plan"
    text: str  # one line
    request: type[Message]
    reply: type[Message]
    streams: bool = False  # server-sent events, each a ``reply``


def document(operations: Sequence[Operation]) -> Json:
    """The OpenAPI 3.1 document."""
    schemas: Json = {"ErrorBody": _error_body()}
    for operation in operations:
        for message in (operation.request, operation.reply):
            _add(_descriptor(message), schemas)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.verb] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "HiTree", "version": VERSION},
        "paths": {**paths, **_probes()},
        "components": {"schemas": schemas},
    }


def _operation(operation: Operation) -> Json:
    media = "text/event-stream" if operation.streams else "application/json"
    content = {media: {"schema": _ref(_descriptor(operation.reply))}}
    body: Json = {
        "operationId": operation.name,
        "summary": operation.text,
        "parameters": [_header(name, text) for name, text in _headers(operation).items()],
        "responses": {"200": {"description": _success(operation), "content": content}} | _errors(),
    }
    if operation.verb == "post":
        schema = _ref(_descriptor(operation.request))
        body["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return body


def _headers(operation: Operation) -> dict[str, str]:
    resume = {LAST_EVENT_ID: "Of a stream that broke off; the request is sent again with its seed"}
    return HEADERS | (resume if operation.streams else {})


def _header(name: str, text: str) -> Json:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


def _success(operation: Operation) -> str:
    if not operation.streams:
        return operation.reply.DESCRIPTOR.name
    return (
        "Server-sent events: `event` is the kind, `data` the event as JSON, `id` what to send as "
        "`last-event-id` to get the rest of a stream that broke off. The last event is `finished` "
        "or `error`; a stream that ends before either has failed."
    )


def _errors() -> Json:
    """One response for each HTTP status of the error tree."""
    reasons: dict[int, list[str]] = {}
    for reason, error in BY_REASON.items():
        reasons.setdefault(error.http_status, []).append(reason)
    schema = {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    return {
        str(status): {"description": ", ".join(names), "content": {"application/json": schema}}
        for status, names in sorted(reasons.items())
    }


def _error_body() -> Json:
    return {
        "type": "object",
        "properties": {"error": _ref(pb.Error.DESCRIPTOR)},
        "required": ["error"],
        "additionalProperties": False,
    }


def _probes() -> Json:
    probes = {
        "/livez": ("Whether the process lives", ("200",), "text/plain"),
        "/readyz": ("Whether calls are welcome", ("200", "503"), "text/plain"),
        "/metrics": ("Metrics for Prometheus", ("200",), "text/plain"),
        "/openapi.json": ("This document", ("200",), "application/json"),
    }
    return {
        path: {"get": {"summary": text, "responses": {s: _plain(s, media) for s in statuses}}}
        for path, (text, statuses, media) in probes.items()
    }


def _plain(status: str, media: str) -> Json:
    return {"description": "yes" if status == "200" else "no", "content": {media: {}}}


# ---- schemas ---------------------------------------------------------------------------------


def _descriptor(message: type[Message]) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)  # of either of protobuf's implementations


def _ref(message: Descriptor) -> Json:
    return {"$ref": f"#/components/schemas/{message.name}"}


def _add(message: Descriptor, schemas: Json) -> None:
    """Add the schema of a message, and those of the messages in it."""
    if message.name in schemas:
        return
    schemas[message.name] = {}  # stops the walk where messages hold each other
    if message.name == pb.DrawEvent.DESCRIPTOR.name:
        schemas[message.name] = _event(message, schemas)
    elif message.name == pb.Stroke.DESCRIPTOR.name:
        schemas[message.name] = _PAIRS
    else:
        schemas[message.name] = _object(_properties(message, schemas))


def _object(properties: Json, required: Sequence[str] = ()) -> Json:
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _properties(message: Descriptor, schemas: Json) -> Json:
    found: Json = {f.name: _field(f, schemas) for f in message.fields}
    if message.name == pb.Points.DESCRIPTOR.name:
        del found["xs"], found["ys"]
        found = {"points": _PAIRS, **found}
    return found


def _event(message: Descriptor, schemas: Json) -> Json:
    """Events are flat but for the plan and the error, which are fields of their own name."""
    return {"oneOf": [_one_event(field, schemas) for field in _kinds(message)]}


def _one_event(field: FieldDescriptor, schemas: Json) -> Json:
    body = cast("Descriptor", field.message_type)  # see `_kinds`
    head: Json = {"index": {"type": "integer", "minimum": 0}, "kind": {"const": field.name}}
    if body.name in (pb.Plan.DESCRIPTOR.name, pb.Error.DESCRIPTOR.name):
        _add(body, schemas)
        return _object({**head, field.name: _ref(body)}, ("index", "kind", field.name))
    return _object({**head, **_properties(body, schemas)}, ("index", "kind"))


def _kinds(message: Descriptor) -> Iterator[FieldDescriptor]:
    return (field for field in message.fields if field.message_type is not None)


def _field(field: FieldDescriptor, schemas: Json) -> Json:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return {"type": "object", "additionalProperties": _value(value, schemas)}
    if field.is_repeated:
        return {"type": "array", "items": _value(field, schemas)}
    value_schema = _value(field, schemas)
    if field.has_presence and field.message_type is None:
        return {"anyOf": [value_schema, {"type": "null"}]}
    return value_schema


def _value(field: FieldDescriptor, schemas: Json) -> Json:
    if field.message_type is not None:
        _add(field.message_type, schemas)
        return _ref(field.message_type)
    if field.enum_type is not None:
        return {"enum": _words(field.enum_type)}
    return dict(_NUMBERS[field.cpp_type])


def _words(enum: EnumDescriptor) -> list[str]:
    """The JSON words of an enum: "cky" for PARSER_CKY."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return [value.name.removeprefix(prefix).lower() for value in enum.values]
