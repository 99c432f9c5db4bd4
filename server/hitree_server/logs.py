"""Structured logs over the standard library's: one line an event, with the request's id.

Nothing is printed until a server installs a handler, so that the embedded engine stays quiet but
for faults, and an application that embeds it decides for itself. Every call leaves a line, so that
a line must cost little: nobody looks up who logs, and JSON is made in one go.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any  # Any: fields are whatever is worth telling

from structlog.dev import ConsoleRenderer, plain_traceback

if TYPE_CHECKING:
    from collections.abc import Callable

    from hitree_server.settings import Settings

ROOM = "hitree_server"  # the logger above all of the server's
ASYNCIO = "asyncio"  # warns of every write to a client that has left

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}  # of any record
_encode = json.JSONEncoder(default=repr).encode


class Logger:
    """Tells events with fields: ``log.info("call", method="Plan")``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        self._tell(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._tell(logging.INFO, event, fields)

    def error(self, event: str, exc_info: BaseException | None = None, **fields: object) -> None:
        self._tell(logging.ERROR, event, fields, exc_info)

    def _tell(
        self, level: int, event: str, fields: dict[str, object], exc: BaseException | None = None
    ) -> None:
        logger = self._logger
        if logger.isEnabledFor(level):
            fault = None if exc is None else (type(exc), exc, exc.__traceback__)
            record = logger.makeRecord(logger.name, level, "", 0, event, (), fault, extra=fields)
            logger.handle(record)


def install(settings: Settings) -> logging.Handler:
    """Send all logs to stderr, as text or as JSON lines; others than ours from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(Lines(_text() if text else _json))
    logging.getLogger().addHandler(handler)
    logging.getLogger(ROOM).setLevel(settings.log_level.upper())
    logging.getLogger(ASYNCIO).setLevel(logging.ERROR)
    return handler


def remove(handler: logging.Handler) -> None:
    """Undo `install`."""
    logging.getLogger().removeHandler(handler)
    for name in (ROOM, ASYNCIO):
        logging.getLogger(name).setLevel(logging.NOTSET)


class Lines(logging.Formatter):
    """A line for each record, whoever made it: its fields, event, level and time, as ``write``."""

    def __init__(self, write: Callable[[logging.LogRecord, dict[str, Any]], str]) -> None:
        super().__init__()
        self._write = write

    def format(self, record: logging.LogRecord) -> str:
        made = datetime.fromtimestamp(record.created, UTC)
        fields = {"event": record.getMessage(), "level": record.levelname.lower()}
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN}
        fields["timestamp"] = made.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return self._write(record, fields)


def _json(record: logging.LogRecord, fields: dict[str, Any]) -> str:
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return _encode(fields)


def _text() -> Callable[[logging.LogRecord, dict[str, Any]], str]:
    render = ConsoleRenderer(exception_formatter=plain_traceback)

    def write(record: logging.LogRecord, fields: dict[str, Any]) -> str:
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        return str(render(None, record.levelname.lower(), fields))

    return write
