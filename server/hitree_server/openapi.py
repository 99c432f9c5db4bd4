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
from hitree_server.openapi_requests import EXAMPLES, FIELDS, REQUIRED
from hitree_server.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

Json = dict[str, Any]

REQUEST_ID = "x-request-id"
TIMEOUT = "x-hitree-timeout-ms"
LAST_EVENT_ID = "last-event-id"

_EVENT_ID = "^[0-9]{1,6}-[0-9]{1,6}-[0-9]{1,6}$"
_HEADERS: dict[str, Json] = {
    REQUEST_ID: {
        "description": "Names the call in logs; comes back with the reply; made up where it is "
        "missing or odd",
        "schema": {"type": "string"},
    },
    TIMEOUT: {
        "description": "Milliseconds that the whole call may take",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    },
}
_RESUME: dict[str, Json] = {
    LAST_EVENT_ID: {
        "description": "Of a stream that broke off; the request is sent again with its seed",
        "schema": {"type": "string", "pattern": _EVENT_ID},
    }
}

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


def document(operations: Sequence[Operation], more: Json, more_schemas: Json) -> Json:
    """The OpenAPI 3.1 document; ``more`` are paths of others, with their schemas."""
    schemas: Json = {"ErrorBody": _error_body(), **more_schemas}
    for operation in operations:
        for message in (operation.request, operation.reply):
            _add(_descriptor(message), schemas)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.verb] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "HiTree", "version": VERSION},
        "paths": {**paths, **more, **_probes()},
        "components": {"schemas": schemas},
    }


def _operation(operation: Operation) -> Json:
    reply = ref(_descriptor(operation.reply).name)
    content: Json = {"application/json": {"schema": reply}}
    if operation.streams:
        content = {"text/event-stream": {"schema": _sent_event(reply)}}
    body: Json = {
        "operationId": operation.name,
        "summary": operation.text,
        "parameters": headers(_HEADERS | (_RESUME if operation.streams else {})),
        "responses": {"200": {"description": _success(operation), "content": content}}
        | errors("ErrorBody"),
    }
    if operation.verb == "get":
        body["parameters"] += _query(_descriptor(operation.request))
    else:
        name = _descriptor(operation.request).name
        sent = {"schema": ref(name), "example": EXAMPLES[name]}
        body["requestBody"] = {"required": True, "content": {"application/json": sent}}
    return body


def _query(request: Descriptor) -> list[Json]:
    """The fields of the messages in a request, as parameters of its query: "bundle.name"."""
    return [
        {"name": f"{message.name}.{field.name}", "in": "query", "schema": {"type": "string"}}
        for message in _kinds(request)
        for field in cast("Descriptor", message.message_type).fields
    ]


def headers(told: dict[str, Json] = _HEADERS) -> list[Json]:
    """Headers as parameters; by default those that every call may have."""
    return [{"name": name, "in": "header", **header} for name, header in told.items()]


def _sent_event(data: Json) -> Json:
    """One server-sent event, since OpenAPI has its schema stand for each of a stream."""
    fields: Json = {
        "id": {"type": "string", "pattern": _EVENT_ID},
        "event": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": data,
        },
    }
    return {"type": "object", "properties": fields, "required": list(fields)}


def _success(operation: Operation) -> str:
    if not operation.streams:
        return operation.reply.DESCRIPTOR.name
    return (
        "Server-sent events: `event` is the kind, `data` the event as JSON, `id` what to send as "
        "`last-event-id` to get the rest of a stream that broke off. The last event is `finished` "
        "or `error`; a stream that ends before either has failed."
    )


def errors(body: str) -> Json:
    """One response for each HTTP status of the error tree, with the schema ``body``."""
    reasons: dict[int, list[str]] = {}
    for reason, error in BY_REASON.items():
        reasons.setdefault(error.http_status, []).append(reason)
    schema = {"schema": ref(body)}
    return {
        str(status): {"description": ", ".join(names), "content": {"application/json": schema}}
        for status, names in sorted(reasons.items())
    }


def _error_body() -> Json:
    return {
        "type": "object",
        "properties": {"error": ref(pb.Error.DESCRIPTOR.name)},
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


def ref(name: str) -> Json:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


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
        required = REQUIRED.get(message.name, ())
        schemas[message.name] = object_schema(_properties(message, schemas), required)


def object_schema(properties: Json, required: Sequence[str] = ()) -> Json:
    """An object with these properties and no others."""
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _properties(message: Descriptor, schemas: Json) -> Json:
    found: Json = {f.name: _field(f, schemas, message.name) for f in message.fields}
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
        return object_schema({**head, field.name: ref(body.name)}, ("index", "kind", field.name))
    return object_schema({**head, **_properties(body, schemas)}, ("index", "kind"))


def _kinds(message: Descriptor) -> Iterator[FieldDescriptor]:
    return (field for field in message.fields if field.message_type is not None)


def _field(field: FieldDescriptor, schemas: Json, message: str) -> Json:
    bounds = FIELDS.get(f"{message}.{field.name}", {})
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return {"type": "object", "additionalProperties": _value(value, schemas)}
    if field.is_repeated:
        return {"type": "array", "items": _value(field, schemas), **bounds}
    value_schema = _value(field, schemas) | bounds
    if field.has_presence and field.message_type is None:
        return {"anyOf": [value_schema, {"type": "null"}]}
    return value_schema


def _value(field: FieldDescriptor, schemas: Json) -> Json:
    if field.message_type is not None:
        _add(field.message_type, schemas)
        return ref(field.message_type.name)
    if field.enum_type is not None:
        return {"enum": _words(field.enum_type)}
    return dict(_NUMBERS[field.cpp_type])


def _words(enum: EnumDescriptor) -> list[str]:
    """The JSON words of an enum: "cky" for PARSER_CKY."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return [value.name.removeprefix(prefix).lower() for value in enum.values]
