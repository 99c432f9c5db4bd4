"""Logs: quiet until installed; one line an event, as JSON or as text."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from hitree_server import logs
from hitree_server.settings import Settings

if TYPE_CHECKING:
    import pytest

log = logs.logger("hitree_server.tests")


def lines(capsys: pytest.CaptureFixture[str], **settings: str) -> list[str]:
    handler = logs.install(Settings.of(**settings))
    try:
        log.info("call", method="Plan")
        log.debug("detail")
        logging.getLogger("elsewhere").warning("beware of %s", "this")
        logging.getLogger("elsewhere").info("not told")
        try:
            raise ZeroDivisionError("a bug")
        except ZeroDivisionError as exc:
            log.error("fault", exc_info=exc)
    finally:
        logs.remove(handler)
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err.splitlines()


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    call, warning, fault = map(json.loads, lines(capsys, log_format="json"))
    assert (call["event"], call["level"], call["method"]) == ("call", "info", "Plan")
    assert call["timestamp"].endswith("Z")
    assert warning["event"] == "beware of this"
    assert "ZeroDivisionError: a bug" in fault["exception"]


def test_text_is_readable_and_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, log_format="text", log_level="debug")
    assert "call" in told[0]
    assert "detail" in told[1]
    assert "Traceback" in "".join(told)


def test_nothing_is_told_before_installing(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("call", method="Plan")
    assert capsys.readouterr() == ("", "")
