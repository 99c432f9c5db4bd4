"""Prompts as instructions: "flamingo", "can you sketch me a flamingo?" -> "draw a flamingo"."""

from __future__ import annotations

import re

from hitree.limits import LIMITS
from hitree.text import BOUNDARIES, normalise, words

_LEAD = "(?:please|can|could|would|will|you|i|i'd|i'll|want|like|to|let's|hey|now|just)"
_PICTURE = "(?:(?:a|an|the|some) )?(?:picture|drawing|sketch|image|doodle)s? of"
_VERB = "(?:draw|sketch|doodle|paint|make|create|show)"
_OPENING = re.compile(f"^(?:{_LEAD} )*(?:{_PICTURE} )?(?:{_VERB} (?:(?:me|us) )?(?:{_PICTURE} )?)?")
_DETERMINERS = frozenset(
    words(
        "a an the my your our his her their its this that these those some any "
        "one two three four five six seven eight nine ten several many"
    )
)
_VOWELS = "aeiou"


def as_instruction(prompt: str, subject: str) -> str:
    """Write a prompt the way that root instructions are written: "draw a … ".

    ``subject`` is the subject that was recognised in it. The prompt's own words are kept, since
    the models read them, as far as an instruction may be long: a plan has to be fit to be drawn.
    """
    text = normalise(prompt.replace("_", " ")) + " "
    rest = _OPENING.sub("", text).strip().removesuffix(" please").split()
    rest = rest or subject.split()
    whole = " ".join(["draw", *_determiner(rest, subject), *rest])
    return whole[: LIMITS.text_characters].rstrip()


def with_article(noun: str) -> str:
    """A noun with its article: "an owl"."""
    return f"{'an' if noun[:1] in _VOWELS else 'a'} {noun}"


def _determiner(rest: list[str], subject: str) -> list[str]:
    """The article that a bare singular noun phrase lacks."""
    if rest[0] in _DETERMINERS or rest[0].isdigit():
        return []
    end = next((i for i, word in enumerate(rest) if i and word in BOUNDARIES), len(rest))
    head = rest[end - 1]
    # "octopus" ends with s and is one; "flamingos" are many.
    plural = head.endswith("s") and head not in subject.split()
    return [] if plural else with_article(rest[0]).split()[:1]
