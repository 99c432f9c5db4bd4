import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitree import errors
from hitree.limits import LIMITS
from hitree.text import Vocabulary, check_text, normalise, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add two EARS!", "add two ears"),
        ("  add   two\tears \n", "add two ears"),
        ("add eyes, a nose and mouth.", "add eyes a nose and mouth"),
        ("a pear-shaped body", "a pear-shaped body"),
        ("the bird's beak", "the bird's beak"),
        ("the bird’s beak", "the bird's beak"),  # noqa: RUF001  # the typographic apostrophe
        ("'quoted' - dashed--apart", "quoted dashed apart"),
        ("ﬂamingo", "flamingo"),  # a ligature
        ("Ａｄｄ", "add"),  # noqa: RUF001  # full width
        ("eine Möwe", "eine möwe"),
        ("draw 2 eyes", "draw 2 eyes"),
        ("snake_case", "snake case"),
        ("🦩 !?", ""),
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected
    assert words(text) == expected.split()


@given(st.text())
def test_normalise_is_idempotent(text):
    once = normalise(text)
    assert normalise(once) == once
    assert "  " not in once
    assert once == once.strip()


@given(st.text())
def test_case_and_outer_space_do_not_count(text):
    assert normalise(f"\n {text} ") == normalise(text)


def test_check_text_returns_the_stripped_text():
    assert check_text("  Draw a Cat!\n") == "Draw a Cat!"
    assert check_text("画一只猫") == "画一只猫"
    assert check_text("line\nbreak\tand tab") == "line\nbreak\tand tab"
    assert check_text("x" * LIMITS.text_characters + "  ")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, errors.NotText),
        (5, errors.NotText),
        (b"draw a cat", errors.NotText),
        (["draw a cat"], errors.NotText),
        ("draw\x00a cat", errors.NotText),
        ("draw \x1b[31m a cat", errors.NotText),
        ("draw \ud800", errors.NotText),
        ("", errors.EmptyPrompt),
        (" \n\t", errors.EmptyPrompt),
        ("?!…", errors.EmptyPrompt),
        ("x" * (LIMITS.text_characters + 1), errors.PromptTooLong),
        ("x" * 1_000_000, errors.PromptTooLong),
    ],
)
def test_check_text_has_an_error_of_its_own_for_each_fault(value, error):
    with pytest.raises(error) as caught:
        check_text(value, "instruction")
    assert type(caught.value) is error
    assert "instruction" in caught.value.message
    assert len(caught.value.message) < 200


TEXTS = ["add two ears", "add a tail", "Add two eyes, please"]


def test_vocabulary_orders_words_by_count_then_alphabet():
    vocabulary = Vocabulary.of(TEXTS, min_count=1)
    assert vocabulary.entries == ("add", "two", "a", "ears", "eyes", "please", "tail")
    assert Vocabulary.of(TEXTS, min_count=2).entries == ("add", "two")
    assert len(vocabulary) == 6 + 7


def test_special_ids_never_move():
    found = (Vocabulary.PAD, Vocabulary.BOS, Vocabulary.EOS, Vocabulary.UNK, Vocabulary.SEP)
    assert (*found, Vocabulary.LEAF, Vocabulary.FIRST) == (0, 1, 2, 3, 4, 5, 6)


def test_unknown_words_are_unk():
    vocabulary = Vocabulary.of(TEXTS, min_count=2)
    assert vocabulary.encode("Add two wings") == [6, 7, Vocabulary.UNK]
    assert vocabulary.decode([6, 7, Vocabulary.UNK]) == "add two <unk>"


def test_decoding_stops_at_the_end_and_leaves_special_ids_out():
    vocabulary = Vocabulary.of(TEXTS)
    ids = [Vocabulary.BOS, 6, Vocabulary.SEP, 7, Vocabulary.PAD, Vocabulary.EOS, 6]
    assert vocabulary.decode(ids) == "add two"


@given(st.lists(st.text(max_size=30), max_size=5))
def test_known_texts_round_trip(texts):
    vocabulary = Vocabulary.of(texts)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text)) == normalise(text)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert Vocabulary.from_json(vocabulary.to_json().encode()) == vocabulary


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"words": "abc"}', '{"words": [1]}', '{"words": [], "more": 1}', b"\xff\xfe"],
)
def test_another_json_is_no_vocabulary(text):
    with pytest.raises(errors.BundleCorrupt, match="vocabulary"):
        Vocabulary.from_json(text)


def test_a_word_twice_is_refused():
    with pytest.raises(errors.BundleCorrupt, match="twice"):
        Vocabulary.from_json(json.dumps({"words": ["a", "a"]}))
