"""Which subject a prompt is about."""

import pytest

from hitree.errors import EmptyPrompt, NotText, PromptTooLong, UnknownSubject
from hitree.text import check_text
from hitree_server.instruction import as_instruction, with_article
from hitree_server.subjects import SubjectIndex
from hitree_training import data

SUBJECTS = ("ant", "bird", "butterfly", "cat", "dog", "flamingo", "owl", "pig", "rabbit",
            "rhinoceros", "sea turtle", "sheep")  # fmt: skip


@pytest.fixture(scope="module")
def index() -> SubjectIndex:
    return SubjectIndex(SUBJECTS, data.token_vectors().sentence, 0.64)


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("draw a flamingo", "flamingo"),
        ("FLAMINGO!", "flamingo"),
        ("two butterflies on a flower", "butterfly"),
        ("a sea turtle", "sea turtle"),
        ("sea_turtle", "sea turtle"),
        ("a cat next to a dog", "cat"),
        ("the dog's ears", "dog"),
        ("sketch a pink wading bird", "bird"),
    ],
)
def test_named_subjects_are_certain(index, prompt, subject):
    found = index.recognise(prompt)
    assert (found.subject, found.confidence) == (subject, 1.0)


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("draw me a kitty with long whiskers", "cat"),
        ("a bunny wearing a hat", "rabbit"),
        ("a puppy", "dog"),
        ("a turtle", "sea turtle"),
        ("draw a rhino", "rhinoceros"),
        ("a flamngo please", "flamingo"),
    ],
)
def test_meant_subjects_are_found_with_less_confidence(index, prompt, subject):
    found = index.recognise(prompt)
    assert found.subject == subject
    assert 0.64 <= found.confidence < 1.0


@pytest.mark.parametrize("prompt", ["draw a bicycle", "a house with a chimney", "12", "draw"])
def test_unknown_subjects_list_the_nearest(index, prompt):
    with pytest.raises(UnknownSubject) as caught:
        index.recognise(prompt)
    nearest = caught.value.details["nearest"].split(", ")
    assert len(nearest) == 5
    assert set(nearest) <= set(SUBJECTS)
    assert caught.value.details["nearest"] in caught.value.message
    assert index.recognise(prompt, nearest=True).subject == nearest[0]


def test_no_prompt_is_no_subject(index):
    for prompt, error in (("  ", EmptyPrompt), ("a" * 501, PromptTooLong), ("a\0b", NotText)):
        with pytest.raises(error):
            index.recognise(prompt)


@pytest.mark.parametrize(
    ("prompt", "subject", "instruction"),
    [
        ("draw a flamingo", "flamingo", "draw a flamingo"),
        ("flamingo", "flamingo", "draw a flamingo"),
        ("Owl.", "owl", "draw an owl"),
        ("Can you sketch me a pink flamingo, please?", "flamingo", "draw a pink flamingo"),
        ("a picture of two cats", "cat", "draw two cats"),
        ("sketch of an owl", "owl", "draw an owl"),
        ("make a drawing of a cat", "cat", "draw a cat"),
        ("flamingos in the rain", "flamingo", "draw flamingos in the rain"),
        ("rhinoceros with a big horn", "rhinoceros", "draw a rhinoceros with a big horn"),
        ("sea_turtle", "sea turtle", "draw a sea turtle"),
        ("draw", "cat", "draw a cat"),
        ("draw me a kitty with long whiskers", "cat", "draw a kitty with long whiskers"),
    ],
)
def test_prompts_become_root_instructions(prompt, subject, instruction):
    assert as_instruction(prompt, subject) == instruction


@pytest.mark.parametrize("prompt", ["cat " * 125, "a cat " + "x" * 494, "cat " + "\ufdfa" * 496])
def test_a_root_instruction_is_no_longer_than_instructions_may_be(prompt):
    assert check_text(as_instruction(prompt, "cat")).startswith("draw a cat")


def test_articles():
    assert (with_article("owl"), with_article("cat")) == ("an owl", "a cat")
