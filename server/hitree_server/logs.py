"""Structured logs over the standard library's: one line an event, with the request's id.

Nothing is printed until a server installs a handler, so that the embedded engine stays quiet but
for faults, and an application that embeds it decides for itself.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, cast

import structlog
from structlog.stdlib import BoundLogger, ExtraAdder, ProcessorFormatter

if TYPE_CHECKING:
    from hitree_server.settings import Settings

ROOM = "hitree_server"  # the logger above all of the server's
ASYNCIO = "asyncio"  # warns of every write to a client that has left


def logger(name: str) -> BoundLogger:
    """A logger that takes fields: ``log.info("call", method="Plan")``."""
    processors = [structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs]
    wrapped = structlog.wrap_logger(
        logging.getLogger(name), processors=processors, wrapper_class=BoundLogger
    )
    return cast("BoundLogger", wrapped)


def install(settings: Settings) -> logging.Handler:
    """Send all logs to stderr, as text or as JSON lines; others than ours from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings))
    logging.getLogger().addHandler(handler)
    logging.getLogger(ROOM).setLevel(settings.log_level.upper())
    logging.getLogger(ASYNCIO).setLevel(logging.ERROR)
    return handler


def remove(handler: logging.Handler) -> None:
    """Undo `install`."""
    logging.getLogger().removeHandler(handler)
    for name in (ROOM, ASYNCIO):
        logging.getLogger(name).setLevel(logging.NOTSET)


def _formatter(settings: Settings) -> logging.Formatter:
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, ExtraAdder(), stamp],
        processors=[ProcessorFormatter.remove_processors_meta, *renderer],
    )
