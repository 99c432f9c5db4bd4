"""What the OpenAPI document tells of requests beyond their fields' types: limits, examples.

The limits are checked in `hitree_server.counts`, `intake`, `planner` and `annotator`; what JSON
Schema has no words for is left out here.
"""

from __future__ import annotations

from typing import Any  # JSON

from hitree.limits import LIMITS
from hitree_server.planner import MAX_TEMPERATURE

Json = dict[str, Any]

_TEXT: Json = {"maxLength": LIMITS.text_characters}
_WORDS: Json = {"minLength": 1, **_TEXT}
_NODES: Json = {"maximum": LIMITS.plan_nodes}

FIELDS: dict[str, Json] = {
    "Drawing.key_id": _TEXT,
    "Drawing.strokes": {"maxItems": LIMITS.drawing_strokes},
    "Plan.prompt": _TEXT,
    "Plan.nodes": {"minItems": 1, "maxItems": LIMITS.plan_nodes},
    "Node.text": _WORDS,
    "PlanRequest.prompt": _WORDS,
    "PlanOptions.expansions": {"maximum": LIMITS.expansions},
    "PlanOptions.max_depth": {"maximum": LIMITS.max_depth},
    "PlanOptions.max_nodes": _NODES,
    "PlanOptions.temperature": {"minimum": 0, "maximum": MAX_TEMPERATURE},
    "DrawRequest.prompt": _WORDS,
    "DrawRequest.temperature": {"exclusiveMinimum": 0, "maximum": MAX_TEMPERATURE},
    "DrawRequest.max_points": {"maximum": LIMITS.max_points},
    "DrawRequest.candidates": {"maximum": LIMITS.candidates},
    "AnnotateRequest.subject": _TEXT,
    "AnnotateRequest.max_nodes": _NODES,
    "DescribeRequest.subject": _TEXT,
    "DescribeRequest.n_best": {"maximum": LIMITS.n_best},
    "ScoreRequest.items": {"minItems": 1, "maxItems": LIMITS.score_items},
    "ScoreItem.text": _WORDS,
}
"""More keywords of a field's schema."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "PlanRequest": ("prompt",),
    "Plan": ("nodes",),
    "Node": ("text",),
    "AnnotateRequest": ("drawing",),
    "DescribeRequest": ("drawing", "end"),
    "ScoreRequest": ("drawing", "items"),
    "ScoreItem": ("end", "text"),
}
"""The fields that a message cannot do without."""

_HOUSE: Json = {
    "strokes": [
        [[60, 120], [60, 200], [180, 200], [180, 120]],
        [[50, 125], [120, 60], [190, 125]],
    ]
}

EXAMPLES: dict[str, Json] = {
    "PlanRequest": {"prompt": "draw a flamingo", "seed": 7},
    "DrawRequest": {"prompt": "draw a flamingo", "seed": 7},
    "AnnotateRequest": {"drawing": _HOUSE},
    "DescribeRequest": {"drawing": _HOUSE, "start": 0, "end": 1, "n_best": 3},
    "ScoreRequest": {
        "drawing": _HOUSE,
        "items": [{"start": 1, "end": 2, "text": "add a roof"}],
    },
}
"""A request of each kind."""
