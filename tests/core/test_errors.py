import re
from http import HTTPStatus

import grpc
import pytest

from hitree import errors
from hitree.errors import (
    BY_GRPC_CODE,
    BY_REASON,
    DETAIL_BYTES,
    MESSAGE_BYTES,
    HiTreeError,
    InternalError,
    from_reason,
)

CLASSES = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, HiTreeError)
]
DRAWN = re.compile(r"^ *(?:[│ ]*[├└]── )?(\w+) +([A-Z_]+)(?: +([A-Z_]+) +(\d+))?$", re.MULTILINE)


def test_every_class_has_a_reason_of_its_own():
    leaves = [cls for cls in CLASSES if cls is not HiTreeError]
    assert len({cls.reason for cls in leaves}) == len(leaves)
    assert set(BY_REASON.values()) == set(leaves)


@pytest.mark.parametrize("cls", CLASSES)
def test_codes_exist(cls):
    assert grpc.StatusCode[cls.grpc_code] is not grpc.StatusCode.OK
    known = {status.value for status in HTTPStatus} | {499}  # nginx: client closed the request
    assert cls.http_status in known
    assert cls.http_status >= 400
    assert re.fullmatch(r"[A-Z][A-Z_]+", cls.reason)


def test_the_docstring_draws_the_tree_as_it_is():
    drawn = {name: rest for name, *rest in DRAWN.findall(errors.__doc__)}
    assert set(drawn) == {cls.__name__ for cls in CLASSES if cls is not HiTreeError}
    for cls in BY_REASON.values():
        reason, code, status = drawn[cls.__name__]
        assert reason == cls.reason
        inherited = (cls.__mro__[1].grpc_code, cls.__mro__[1].http_status)
        assert (code or inherited[0]) == cls.grpc_code
        assert int(status or inherited[1]) == cls.http_status


def test_the_docstring_nests_as_the_classes_do():
    depths = {
        match[1]: len(match[0])
        for match in re.finditer(r"^ +[│ ]*[├└]── (?=(\w+))", errors.__doc__, re.MULTILINE)
    }
    for cls in BY_REASON.values():
        parent = cls.__mro__[1]
        if parent is not HiTreeError:
            assert depths[cls.__name__] == depths[parent.__name__] + 4


@pytest.mark.parametrize("cls", BY_REASON.values())
def test_an_error_survives_its_reason(cls):
    error = cls("what happened", details={"nearest": "cat"}, retry_after=1.5)
    found = from_reason(
        error.reason, error.message, details=error.details, retry_after=error.retry_after
    )
    assert type(found) is cls
    assert (str(found), found.details, found.retry_after) == (
        "what happened",
        {"nearest": "cat"},
        1.5,
    )


def test_an_unknown_reason_is_an_internal_error():
    assert type(from_reason("NEWER_THAN_THIS", "x")) is InternalError


@pytest.mark.parametrize(("code", "cls"), BY_GRPC_CODE.items())
def test_codes_without_a_reason_fall_back_to_a_class(code, cls):
    assert grpc.StatusCode[code] is not grpc.StatusCode.OK
    assert cls in BY_REASON.values()


@pytest.mark.parametrize("quoted", ["x" * 10_000_000, "\U0001f9a9" * 100_000])
def test_what_is_quoted_of_a_request_is_cut_in_the_middle(quoted):
    error = HiTreeError(f"there is no {quoted}; send another", details={"field": quoted})
    assert error.message.startswith(f"there is no {quoted[:100]}")
    assert error.message.endswith(f"{quoted[:100]}; send another")
    assert str(error) == error.message
    assert MESSAGE_BYTES - 8 <= len(error.message.encode()) <= MESSAGE_BYTES
    assert len(error.details["field"].encode()) <= DETAIL_BYTES


def test_what_is_quoted_is_made_valid_unicode():
    error = HiTreeError("there is no \ud800", details={"field": "\ud800"})
    assert (error.message, error.details) == ("there is no \\ud800", {"field": "\\ud800"})
