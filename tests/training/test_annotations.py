"""Both annotation formats, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from hitree_training import data
from hitree_training.annotations import (
    COLUMNS,
    InvalidAnnotation,
    Step,
    read,
    read_csv,
    read_jsonl,
)

if TYPE_CHECKING:
    from pathlib import Path

LINE = {
    "key_id": "7",
    "word": "cat",
    "split": "train",
    "source": "drawn",
    "root": "draw a cat",
    "parts": ["head", "ear", "ear"],
    "steps": [
        {"start": 0, "end": 1, "text": "draw a head"},
        {"start": 1, "end": 3, "text": "add two ears"},
    ],
}
HEAD = ",".join(COLUMNS)


def test_the_builtin_formats_agree() -> None:
    rich = read(data.BUILTIN / "annotations.jsonl")
    talk = read(data.BUILTIN / "annotations.csv")
    assert len(talk) > 1000
    assert all(talk[key].steps == rich[key].steps for key in talk)
    assert all(not talk[key].root and not talk[key].parts for key in talk)


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(LINE) + "\n\n")
    (annotation,) = read_jsonl(path).values()
    assert annotation.root == "draw a cat"
    assert annotation.parts == ("head", "ear", "ear")
    assert annotation.steps == (Step(0, 1, "draw a head"), Step(1, 3, "add two ears"))


def test_drawings_need_not_be_annotated(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "annotations.jsonl") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "unknown keys"),
        ({"steps": [{"start": 1, "end": 3, "text": "x"}]}, "does not begin"),
        ({"steps": [{"start": 0, "end": 2, "text": "x"}]}, "the drawing has 3"),
        ({"steps": [{"start": 0, "end": 3}]}, "'text' is missing"),
        ({"steps": 3}, "line 2"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps({**LINE, **change}) + "\n")
    with pytest.raises(InvalidAnnotation, match="line 2") as caught:
        read_jsonl(path)
    assert message in caught.value.message


def test_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(InvalidAnnotation, match="line 1"):
        read_jsonl(path)


def test_csv_keeps_the_first_of_several_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{HEAD}\n7,cat,1,3,3,,add two ears\n7,cat,0,1,3,,a head\n7,cat,0,1,3,,b\n")
    assert read_csv(path)["7"].steps == (Step(0, 1, "a head"), Step(1, 3, "add two ears"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Input.id,Answer.annotation\n7,x\n", "columns"),
        (f"{HEAD}\n7,cat,zero,1,1,,x\n", "line 2"),
        (f"{HEAD}\n7,cat,0,1,1,,\n", "empty"),
        (f"{HEAD}\n7,cat,0,1,2,,x\n", "the drawing has 2"),
        (f"{HEAD}\n7,cat,0\n", "line 2"),
    ],
)
def test_a_bad_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InvalidAnnotation, match=message):
        read_csv(path)
