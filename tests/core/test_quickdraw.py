import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given

from hitree import errors
from hitree.drawing import Drawing, bounds
from hitree.polyline import divide
from hitree.quickdraw import (
    Record,
    read_raw,
    read_simplified,
    read_stroke3,
    simplify,
    write_ndjson,
)
from strategies import drawings, same

LINE = {"key_id": "1", "word": "cat", "drawing": [[[0, 255], [0, 10]]]}


def lists(drawing: Drawing) -> list:
    return [stroke.tolist() for stroke in drawing.strokes]


def ndjson(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


# ---- the recipe


def test_a_drawing_is_moved_to_the_corner_and_its_larger_side_is_255():
    found = simplify([[[100, 50], [300, 50]], [[100, 50], [100, 150]]])
    assert lists(found) == [[[0, 0], [255, 0]], [[0, 0], [0, 128]]]  # 127.5, to even


def test_small_drawings_are_scaled_up():
    assert lists(simplify([[[0.1, 0.1], [0.1, 0.3]]])) == [[[0, 0], [0, 255]]]


def test_points_within_epsilon_go_and_corners_stay():
    bump, spike = [100, 2], [200, 40]
    found = simplify([[[0, 0], bump, [150, 0], spike, [255, 0]]])
    (points,) = lists(found)
    assert points[0] == [0, 0]
    assert points[-1] == [255, 0]
    assert bump not in points
    assert min(np.hypot(x - 200, y - 40) for x, y in points) <= 1  # the next resampled point


def test_a_slow_pen_makes_no_more_points_than_a_fast_one():
    x = np.linspace(0, 255, 10_000)
    slow = np.stack([x, np.zeros_like(x)], axis=1)
    assert lists(simplify([slow])) == [[[0, 0], [255, 0]]]


def test_a_circle_keeps_within_epsilon_of_itself():
    turn = np.linspace(0, 2 * np.pi, 2000)
    circle = 127.5 + 127.5 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    (points,) = simplify([circle]).strokes
    assert 15 <= len(points) <= 40
    dense = divide([points], 500)[0]
    assert np.abs(np.hypot(*(dense - 127.5).T) - 127.5).max() <= 2.0 + 0.75  # and rounding


def test_dots_and_points_in_one_place():
    assert lists(simplify([[[5, 5]]])) == [[[0, 0]]]
    assert lists(simplify([[[5, 5], [5, 5]]])) == [[[0, 0]]]
    assert lists(simplify([[[0, 0]], [[10, 0]]])) == [[[0, 0]], [[255, 0]]]


FRAMES = [
    [[[0, 0], [255, 0], [255, 255], [0, 255], [0, 0]]],
    [[[0, 0], [255, 0]], [[0, 255], [255, 255]], [[7, 9]]],
    [[[0, 100], [255, 100], [255, 0], [100, 0]]],
]


@pytest.mark.parametrize("strokes", FRAMES)
def test_simplified_drawings_stay_as_they_are(strokes):
    assert lists(simplify(strokes)) == strokes


@given(drawings)
def test_results_are_whole_units_in_the_frame(drawing):
    found = simplify(drawing.strokes)
    assert len(found.strokes) == len(drawing.strokes)
    points = np.concatenate(found.strokes)
    assert np.array_equal(points, np.rint(points))
    assert points.min() >= 0
    assert points.max() <= 255


@given(drawings)
def test_a_second_pass_changes_little(drawing):
    left, top, right, bottom = bounds(drawing.strokes)
    assume(max(right - left, bottom - top) > 16)
    once = simplify(drawing.strokes)
    twice = simplify(once.strokes)
    assert twice.points <= once.points
    # Corners off the grid of resampled points move by up to one unit, edges by epsilon more, and
    # where an outermost corner was thinned away the drawing is stretched by as much again.
    pairs = zip(divide(once.strokes, 64), divide(twice.strokes, 64), strict=True)
    for before, after in pairs:
        gaps = np.hypot(*(before[:, None] - after[None]).transpose(2, 0, 1))
        spacing = np.hypot(*np.diff(before, axis=0).T).max()
        assert gaps.min(axis=1).max() <= 8 + spacing


@given(drawings)
def test_place_and_size_on_the_screen_do_not_count(drawing):
    left, top, right, bottom = bounds(drawing.strokes)
    assume(max(right - left, bottom - top) > 16)
    moved = [stroke.astype(np.float64) * 2 + 512 for stroke in drawing.strokes]
    assert same(simplify(moved), simplify(drawing.strokes))


@pytest.mark.parametrize(
    ("strokes", "error"),
    [
        ([], errors.EmptyDrawing),
        ([[]], errors.EmptyDrawing),
        ([[[0, np.nan], [1, 1]]], errors.NotFinite),
        ([[[1, 2, 3]]], errors.InvalidDrawing),
        (["abc"], errors.InvalidDrawing),
    ],
)
def test_what_is_no_drawing_is_not_simplified(strokes, error):
    with pytest.raises(error):
        simplify(strokes)


# ---- readers and the writer


def test_simplified_records(tmp_path):
    path = ndjson(
        tmp_path / "cat.ndjson",
        {**LINE, "recognized": False, "countrycode": "DE", "timestamp": "2017-03-01"},
        {**LINE, "key_id": 7, "split": "test", "source": "drawn", "parts": ["a"], "temperature": 1},
    )
    with path.open("a") as file:
        file.write("\n  \n")  # blank lines are nothing
    first, second = read_simplified(path)
    assert (first.key_id, first.word, first.recognized, first.source) == (
        "1",
        "cat",
        False,
        "quickdraw",
    )
    assert (first.split, first.parts, first.temperature) == ("", (), None)
    assert lists(first.drawing) == [[[0, 0], [255, 10]]]
    assert (second.key_id, second.split, second.source) == ("7", "test", "drawn")
    assert (second.parts, second.temperature, second.recognized) == (("a",), 1.0, True)


def test_raw_records_are_simplified(tmp_path):
    raw = {**LINE, "drawing": [[[100.5, 200.5, 300.5], [40, 40, 40], [0, 16, 33]]]}
    (record,) = read_raw(ndjson(tmp_path / "raw.ndjson", raw))
    assert lists(record.drawing) == [[[0, 0], [255, 0]]]


@given(drawings)
def test_what_is_written_is_read_again(tmp_path_factory, drawing):
    path = tmp_path_factory.mktemp("quickdraw") / "out.ndjson"
    parts = tuple("abcdef"[: len(drawing.strokes)])
    records = [
        Record("1", "sea turtle", drawing, "train", "sketch-rnn", parts, False, 0.5),
        Record("é", "cat", drawing),
    ]
    assert write_ndjson(path, records) == 2
    for found, record in zip(read_simplified(path), records, strict=True):
        assert same(found.drawing, record.drawing)
        names = ("key_id", "word", "split", "source", "parts", "recognized", "temperature")
        assert all(getattr(found, name) == getattr(record, name) for name in names)
    assert [each.name for each in path.parent.iterdir()] == ["out.ndjson"]


def test_whole_units_are_written_as_the_data_set_does(tmp_path):
    write_ndjson(tmp_path / "x", [Record("1", "cat", Drawing.of([[[1, 2.25], [3, 4]]]))])
    assert '"drawing":[[[1,3],[2.25,4]]]' in (tmp_path / "x").read_text()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", errors.InvalidInput),
        ("nonsense", errors.InvalidInput),
        ("\xff\xfe", errors.InvalidInput),
        ("[" * 100_000, errors.InvalidInput),
        ("5", errors.InvalidInput),
        ("{}", errors.EmptyDrawing),
        ('{"drawing": []}', errors.EmptyDrawing),
        ('{"drawing": 5}', errors.EmptyDrawing),
        ('{"drawing": [5]}', errors.InvalidDrawing),
        ('{"drawing": [[[1, 2]]]}', errors.InvalidDrawing),
        ('{"drawing": [[[1, 2], [3]]]}', errors.InvalidDrawing),
        ('{"drawing": [[[1, 2], [3, 4], [0, 1]]]}', errors.InvalidDrawing),  # raw
        ('{"drawing": [[[], []]]}', errors.EmptyDrawing),
        ('{"drawing": [[["1"], ["2"]]]}', errors.InvalidDrawing),
        ('{"drawing": [[[1, null], [3, 4]]]}', errors.InvalidDrawing),
        ('{"drawing": [[[NaN, 1], [2, 3]]]}', errors.NotFinite),
        ('{"drawing": [[[1e400, 1], [2, 3]]]}', errors.NotFinite),
        ('{"drawing": [[[1], [2]]], "word": 5}', errors.InvalidInput),
        ('{"drawing": [[[1], [2]]], "key_id": []}', errors.InvalidInput),
        ('{"drawing": [[[1], [2]]], "recognized": "yes"}', errors.InvalidInput),
        ('{"drawing": [[[1], [2]]], "temperature": "hot"}', errors.InvalidInput),
        ('{"drawing": [[[1], [2]]], "parts": ["a", "b"]}', errors.InvalidInput),
        ('{"drawing": [[[1], [2]]], "parts": [5]}', errors.InvalidInput),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, error):
    path = tmp_path / "cat.ndjson"
    path.write_bytes(f"{json.dumps(LINE)}\n\n{line}\n".encode("latin1"))
    records = read_simplified(path)
    assert next(records).word == "cat"
    with pytest.raises(error, match=r"cat\.ndjson, line 3: ") as caught:
        next(records)
    assert type(caught.value) is error
    assert caught.value.details == {"file": str(path), "line": "3"}


def test_simplified_lines_are_no_raw_lines(tmp_path):
    with pytest.raises(errors.InvalidDrawing, match=r"line 1: stroke 0 is not \[xs, ys, ts\]"):
        next(read_raw(ndjson(tmp_path / "x.ndjson", LINE)))


@pytest.mark.parametrize("read", [read_simplified, read_raw, read_stroke3])
def test_a_missing_file_is_an_invalid_input(tmp_path, read):
    with pytest.raises(errors.InvalidInput, match="No such file"):
        next(read(tmp_path / "missing"))
    with pytest.raises(errors.InvalidInput, match="directory"):
        next(read(tmp_path))


def test_stroke3_records(tmp_path):
    path = tmp_path / "sea_turtle.full.npz"
    rows = np.array([[10, 20, 0], [5, 0, 1], [-5, 5, 1]], np.int16)
    large = np.array([[0, 0, 0], [510, 0, 0], [0, 255, 1]], np.int16)
    np.savez(path, train=rows[None], test=large[None])
    train, test = read_stroke3(path)
    assert (train.key_id, train.word, train.split) == (
        "sea_turtle.full-train-0",
        "sea turtle",
        "train",
    )
    assert train.source == "sketch-rnn"
    assert lists(train.drawing) == [[[0, 0], [5, 0]], [[0, 5]]]
    assert test.split == "test"
    assert lists(test.drawing) == [[[0, 0], [255, 0], [255, 127.5]]]
    assert next(read_stroke3(path, "turtle")).word == "turtle"
