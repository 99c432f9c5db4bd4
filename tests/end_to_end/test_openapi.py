"""The HTTP door does what its OpenAPI document says, for requests that it allows and others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings

from end_to_end.fuzzing import SECONDS
from hitree_server import openapi, openapi_inference
from hitree_server.http import OPERATIONS
from hitree_server.openapi import TIMEOUT
from hitree_server.openapi_inference import NAME

if TYPE_CHECKING:
    from end_to_end.threads import Inside

DOCUMENT = openapi.document(OPERATIONS, openapi_inference.PATHS, openapi_inference.SCHEMAS)
# What takes long where there is much of it.
COSTLY = {"expansions": 2, "max_depth": 2, "max_nodes": 6, "max_points": 20}
# Not all that is refused can be said in a schema; 504 is looked at below.
CHECKS = {
    "positive_data_acceptance": {"enabled": False},
    "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "501", "504"]},
}


def told(*, boundaries: bool) -> Any:
    """The document as a source of tests; at the ``boundaries`` of schemas there are thousands."""
    config = {
        "seed": 1,
        "generation": {"allow-extra-parameters": False},
        "phases": {"coverage": {"enabled": boundaries}},
        "checks": CHECKS,
    }
    loaded = schemathesis.Config.from_dict(config)
    return schemathesis.openapi.from_dict(DOCUMENT, config=loaded)


def some(examples: int, *, same: bool) -> settings:
    """How many of each operation, and whether always the ``same``."""
    return settings(
        max_examples=examples,
        derandomize=same,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@told(boundaries=False).parametrize()
@some(8, same=True)
def test_every_operation_is_as_documented(case: schemathesis.Case, tiny: Inside) -> None:
    check(case, tiny)


@pytest.mark.full
@told(boundaries=True).parametrize()
@some(150, same=False)
def test_every_operation_is_as_documented_at_length(case: schemathesis.Case, tiny: Inside) -> None:
    check(case, tiny)


def check(case: schemathesis.Case, tiny: Inside) -> None:
    """Send a request and hold the reply against the document."""
    cheapen(case.body)
    name_models(case.path_parameters, tiny)
    assume("\n" not in unquote(case.formatted_path))  # has BentoML's own 404, in plain text
    reply = case.call_and_validate(base_url=tiny.http, timeout=SECONDS)
    assert reply.status_code != 504 or TIMEOUT in case.headers
    tiny.settle()
    assert tiny.faults() == 0


def cheapen(body: Any) -> None:
    """Have nobody wait for a plan of thousands of nodes."""
    if not isinstance(body, dict):
        return
    for name, most in COSTLY.items():
        if isinstance(body.get(name), int):
            body[name] = min(body[name], most) if body[name] < 2**11 else body[name]
    for inner in body.values():
        cheapen(inner)


def name_models(given: dict[str, str], tiny: Inside) -> None:
    """Put a model that there is in place of most names that were drawn, where they are legal."""
    name = str(given.get("model", ""))
    if re.fullmatch(NAME, name) and len(name) % 4:
        served = {"model": "generator_step", "version": tiny.app.service.raw().version}
        given.update({place: served[place] for place in given})
