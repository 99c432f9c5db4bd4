"""Which subject a prompt is about: its own words first, then what they mean.

The words are matched against the subjects and their plurals, and against near spellings of them;
where none matches, the sentence vectors of the prompt's content words decide, so that a "kitty" is
a cat without anybody having listed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hitree.errors import UnknownSubject
from hitree.text import BOUNDARIES, check_text, words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Sentence = Callable[[str], NDArray[np.float32]]

NEAREST = 5  # subjects that an error lists
SPELLING = 0.85  # similarity at which a word is taken for a misspelt subject
SPELLING_LETTERS = 5  # shorter words have too many neighbours

VERBS = frozenset(words("draw sketch doodle paint make create show drawing picture image"))
STOP_WORDS = frozenset(
    words(
        "a an the me us my please can could would will you i i'd want like to some of it its it's "
        "this that let's and or one two three four five"
    )
)


@dataclass(frozen=True)
class Recognition:
    """The subject that a text is about."""

    subject: str  # with spaces
    confidence: float  # 0 to 1; 1 where the text names the subject


class SubjectIndex:
    """The subjects of a bundle, ready to be recognised."""

    def __init__(self, subjects: Sequence[str], sentence: Sentence, threshold: float) -> None:
        self._subjects = tuple(subjects)
        self._sentence = sentence
        self._threshold = threshold
        self._forms = {form: s for s in subjects for form in _forms(s)}
        self._vectors = np.stack([sentence(subject) for subject in subjects])  # (S, E)

    def recognise(self, prompt: str, *, nearest: bool = False) -> Recognition:
        """The subject of ``prompt``; the nearest one at any confidence where ``nearest``.

        Raises:
            NotText, PromptTooLong, EmptyPrompt: see `hitree.text.check_text`.
            UnknownSubject: no subject is near enough; ``details["nearest"]`` lists the nearest.
        """
        found = words(check_text(prompt).replace("_", " "))
        named = self._named(found) or self._misspelt(found)
        if named is not None:
            return named
        scores = self._scores(found)
        order = np.argsort(-scores, kind="stable")
        confidence = float(np.clip(scores[order[0]], 0.0, 1.0))
        if confidence >= self._threshold or nearest:
            return Recognition(self._subjects[order[0]], confidence)
        names = ", ".join(self._subjects[i] for i in order[:NEAREST])
        raise UnknownSubject(
            f"no subject was recognised in {prompt!r}; the nearest are {names}; name one of them, "
            "or ask for the nearest subject",
            details={"nearest": names},
        )

    def _named(self, found: list[str]) -> Recognition | None:
        """The first subject that the words name, "sea turtle" before any one word."""
        tokens = [word.removesuffix("'s") for word in found]
        pairs = (f"{first} {second}" for first, second in pairwise(tokens))
        for text in (*pairs, *tokens):
            if text in self._forms:
                return Recognition(self._forms[text], 1.0)
        return None

    def _misspelt(self, found: list[str]) -> Recognition | None:
        pairs = [
            (SequenceMatcher(None, word, form).ratio(), self._forms[form])
            for word in found
            if len(word) >= SPELLING_LETTERS
            for form in self._forms
        ]
        ratio, subject = max(pairs, default=(0.0, ""))
        return Recognition(subject, ratio) if ratio >= SPELLING else None

    def _scores(self, found: list[str]) -> NDArray[np.float32]:
        """Cosine of each subject with the word or phrase that is nearest to it: (S,)."""
        content = thing(found) or found
        texts = [*content, *(f"{first} {second}" for first, second in pairwise(content))]
        texts.append(" ".join(content))
        vectors = np.stack([self._sentence(text) for text in texts])  # (N, E)
        scores: NDArray[np.float32] = (vectors @ self._vectors.T).max(axis=0)
        return scores


def thing(found: Sequence[str]) -> list[str]:
    """The words for the thing itself: "draw me a grey kitty with whiskers" -> grey, kitty."""
    kept: list[str] = []
    for word in found:
        if word in BOUNDARIES and kept:
            break
        if word not in VERBS | STOP_WORDS | BOUNDARIES:
            kept.append(word)
    return kept


def _forms(subject: str) -> list[str]:
    forms = [subject, f"{subject}s", f"{subject}es"]
    if subject.endswith("y"):
        forms.append(f"{subject[:-1]}ies")
    return forms
