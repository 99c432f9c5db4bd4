"""The error tree of HiTree, the same over gRPC, over HTTP and embedded.

::

    HiTreeError                    reason                  gRPC                 HTTP
    ├── InvalidInput               INVALID_INPUT           INVALID_ARGUMENT     400
    │   ├── EmptyPrompt            EMPTY_PROMPT
    │   ├── PromptTooLong          PROMPT_TOO_LONG
    │   ├── NotText                NOT_TEXT
    │   ├── UnknownField           UNKNOWN_FIELD
    │   ├── InvalidPlan            INVALID_PLAN
    │   └── InvalidDrawing         INVALID_DRAWING
    │       ├── NotFinite          NOT_FINITE
    │       ├── EmptyDrawing       EMPTY_DRAWING
    │       ├── SinglePoint        SINGLE_POINT
    │       ├── TooManyStrokes     TOO_MANY_STROKES
    │       ├── TooManyPoints      TOO_MANY_POINTS
    │       └── OutOfFrame         OUT_OF_FRAME
    ├── UnknownSubject             UNKNOWN_SUBJECT         NOT_FOUND            404
    ├── UnknownModel               UNKNOWN_MODEL           NOT_FOUND            404
    ├── UnknownBundle              UNKNOWN_BUNDLE          NOT_FOUND            404
    ├── Unauthenticated            UNAUTHENTICATED         UNAUTHENTICATED      401
    ├── Overloaded                 OVERLOADED              RESOURCE_EXHAUSTED   429
    ├── DeadlineExceeded           DEADLINE_EXCEEDED       DEADLINE_EXCEEDED    504
    ├── Cancelled                  CANCELLED               CANCELLED            499
    ├── Unavailable                UNAVAILABLE             UNAVAILABLE          503
    │   ├── PortBusy               PORT_BUSY
    │   ├── MissingPackage         MISSING_PACKAGE
    │   └── ClientClosed           CLIENT_CLOSED
    ├── Unimplemented              UNIMPLEMENTED           UNIMPLEMENTED        501
    ├── BundleError                BUNDLE_ERROR            FAILED_PRECONDITION  500
    │   ├── BundleIncomplete       BUNDLE_INCOMPLETE
    │   └── BundleCorrupt          BUNDLE_CORRUPT
    └── InternalError              INTERNAL                INTERNAL             500

A message says what was given, what was expected and what to do. ``details`` holds facts for
programs (strings to strings), ``retry_after`` the seconds after which another try makes sense.
"""

# ruff: noqa: N818  # callers read "except Overloaded"; the base class says that they are errors
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


# A gRPC client drops a status of more than 8 KiB, in which the message stands twice and each of its
# bytes may take three.
MESSAGE_BYTES = 1024
DETAIL_BYTES = 512  # of each
_CUT = " … "  # in place of what was cut out


class HiTreeError(Exception):
    """Any error of HiTree; the subclasses tell which."""

    reason: ClassVar[str] = "INTERNAL"
    grpc_code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Keep the message, the facts for programs and the retry hint in seconds.

        What is quoted of a request may be anything; what no door could carry is cut out of it.
        """
        self.message = _carried(message, MESSAGE_BYTES)
        super().__init__(self.message)
        self.details = {k: _carried(v, DETAIL_BYTES) for k, v in (details or {}).items()}
        self.retry_after = retry_after


class InvalidInput(HiTreeError):
    """The request itself is wrong; sending it again will not help."""

    reason = "INVALID_INPUT"
    grpc_code = "INVALID_ARGUMENT"
    http_status = 400


class EmptyPrompt(InvalidInput):
    """The prompt or instruction holds no words."""

    reason = "EMPTY_PROMPT"


class PromptTooLong(InvalidInput):
    """The prompt or instruction has more characters than the limit."""

    reason = "PROMPT_TOO_LONG"


class NotText(InvalidInput):
    """The prompt or instruction is not text (another type, or control characters)."""

    reason = "NOT_TEXT"


class UnknownField(InvalidInput):
    """A JSON body or a Python call names a field that does not exist."""

    reason = "UNKNOWN_FIELD"


class InvalidPlan(InvalidInput):
    """The plan is no tree: ids, parents or spans do not fit together."""

    reason = "INVALID_PLAN"


class InvalidDrawing(InvalidInput):
    """The drawing cannot be used."""

    reason = "INVALID_DRAWING"


class NotFinite(InvalidDrawing):
    """A coordinate is NaN or infinite."""

    reason = "NOT_FINITE"


class EmptyDrawing(InvalidDrawing):
    """The drawing has no strokes, or a stroke has no points."""

    reason = "EMPTY_DRAWING"


class SinglePoint(InvalidDrawing):
    """The whole drawing is one point."""

    reason = "SINGLE_POINT"


class TooManyStrokes(InvalidDrawing):
    """The drawing has more strokes than the limit."""

    reason = "TOO_MANY_STROKES"


class TooManyPoints(InvalidDrawing):
    """The drawing has more points than the limit."""

    reason = "TOO_MANY_POINTS"


class OutOfFrame(InvalidDrawing):
    """A coordinate lies far outside the frame."""

    reason = "OUT_OF_FRAME"


class UnknownSubject(HiTreeError):
    """No subject that the bundle can draw was recognised; ``details["nearest"]`` lists some."""

    reason = "UNKNOWN_SUBJECT"
    grpc_code = "NOT_FOUND"
    http_status = 404


class UnknownModel(HiTreeError):
    """The bundle has no raw model of this name and version."""

    reason = "UNKNOWN_MODEL"
    grpc_code = "NOT_FOUND"
    http_status = 404


class UnknownBundle(HiTreeError):
    """No bundle of this name and version is served; ``details["served"]`` lists those that are."""

    reason = "UNKNOWN_BUNDLE"
    grpc_code = "NOT_FOUND"
    http_status = 404


class Unauthenticated(HiTreeError):
    """The API key is missing or wrong."""

    reason = "UNAUTHENTICATED"
    grpc_code = "UNAUTHENTICATED"
    http_status = 401


class Overloaded(HiTreeError):
    """The queue is full; ``retry_after`` says when to try again."""

    reason = "OVERLOADED"
    grpc_code = "RESOURCE_EXHAUSTED"
    http_status = 429


class DeadlineExceeded(HiTreeError):
    """The deadline passed before the work was done."""

    reason = "DEADLINE_EXCEEDED"
    grpc_code = "DEADLINE_EXCEEDED"
    http_status = 504


class Cancelled(HiTreeError):
    """The call was cancelled; ``partial`` holds what had been drawn, where something had."""

    reason = "CANCELLED"
    grpc_code = "CANCELLED"
    http_status = 499
    partial: object | None = None


class Unavailable(HiTreeError):
    """The service cannot be reached, or is starting or stopping."""

    reason = "UNAVAILABLE"
    grpc_code = "UNAVAILABLE"
    http_status = 503


class PortBusy(Unavailable):
    """A port that the service should listen on is taken."""

    reason = "PORT_BUSY"


class MissingPackage(Unavailable):
    """A distribution or extra that the call needs is not installed."""

    reason = "MISSING_PACKAGE"


class ClientClosed(Unavailable):
    """The client was closed, and calls nobody any more."""

    reason = "CLIENT_CLOSED"


class Unimplemented(HiTreeError):
    """The call is part of the contract and not built yet."""

    reason = "UNIMPLEMENTED"
    grpc_code = "UNIMPLEMENTED"
    http_status = 501


class BundleError(HiTreeError):
    """The bundle cannot be served."""

    reason = "BUNDLE_ERROR"
    grpc_code = "FAILED_PRECONDITION"


class BundleIncomplete(BundleError):
    """A file of the bundle, or the bundle itself, is missing."""

    reason = "BUNDLE_INCOMPLETE"


class BundleCorrupt(BundleError):
    """A file of the bundle is not what its manifest says."""

    reason = "BUNDLE_CORRUPT"


class InternalError(HiTreeError):
    """The service failed; the request may be fine."""


def _carried(text: str, most: int) -> str:
    """The text as valid Unicode; where it is longer than ``most`` bytes, without its middle."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= most:
        return data.decode()
    half = (most - len(_CUT.encode())) // 2
    return data[:half].decode(errors="ignore") + _CUT + data[-half:].decode(errors="ignore")


def _walk(root: type[HiTreeError]) -> list[type[HiTreeError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _walk(child))]


BY_REASON: dict[str, type[HiTreeError]] = {cls.reason: cls for cls in _walk(HiTreeError)[1:]}

# What a code means where the other side sent no reason (a proxy, a stock server).
BY_GRPC_CODE: dict[str, type[HiTreeError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "OUT_OF_RANGE": InvalidInput,
    "NOT_FOUND": UnknownSubject,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Unauthenticated,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAVAILABLE": Unavailable,
    "UNIMPLEMENTED": Unimplemented,
    "FAILED_PRECONDITION": BundleError,
    "INTERNAL": InternalError,
}


def from_reason(
    reason: str,
    message: str,
    *,
    details: Mapping[str, str] | None = None,
    retry_after: float | None = None,
) -> HiTreeError:
    """Build the error class that ``reason`` names; an unknown reason gives `InternalError`."""
    cls = BY_REASON.get(reason, InternalError)
    return cls(message, details=details, retry_after=retry_after)
