from dataclasses import fields

from hitree.limits import LIMITS, Limits


def test_the_table_is_what_the_docs_promise():
    assert LIMITS.as_dict() == {
        "drawing_strokes": 512,
        "drawing_points": 20_000,
        "canvas_strokes": 128,
        "canvas_points": 2_000,
        "text_characters": 500,
        "plan_nodes": 64,
        "max_depth": 64,
        "expansions": 64,
        "n_best": 16,
        "score_items": 64,
        "message_bytes": 4 * 1024 * 1024,
        "candidates": 16,
        "sessions_per_key": 8,
        "max_points": 2_000,
        "frame_margin": 1_024,
    }


def test_every_limit_is_a_positive_whole_number():
    table = LIMITS.as_dict()
    assert table.keys() == {field.name for field in fields(Limits)}
    assert all(isinstance(value, int) and value > 0 for value in table.values())
