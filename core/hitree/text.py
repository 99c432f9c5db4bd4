"""English in and out: normalisation, the check of what callers write, the word vocabulary."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar

from hitree.errors import BundleCorrupt, EmptyPrompt, NotText, PromptTooLong
from hitree.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable

_JOINERS = "'-"  # kept inside words: "bird's", "pear-shaped"
_SAME = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u2010": "-", "\u00ad": None})
_RUNS = re.compile(f"[{_JOINERS}]{{2,}}")
_BLANKS = "\t\n\r"  # control characters that are harmless white space


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Lower case, NFKC, single spaces, punctuation gone except inside words; idempotent."""
    folded = unicodedata.normalize("NFKC", text.translate(_SAME)).lower()
    folded = unicodedata.normalize("NFKC", folded).translate(_SAME)
    kept = "".join(
        c if c in _JOINERS or unicodedata.category(c)[0] in "LMN" else " " for c in folded
    )
    tokens = (token.strip(_JOINERS) for token in _RUNS.sub(" ", kept).split())
    return " ".join(token for token in tokens if any(c.isalnum() for c in token))


def words(text: str) -> list[str]:
    """The words of a text, normalised."""
    return normalise(text).split()


# Where a thing itself ends, and what it has or does begins.
BOUNDARIES = frozenset(
    words(
        "with without who which that in on at near beside under over behind from having wearing "
        "holding while as next looking facing"
    )
)


def check_text(value: object, noun: str = "prompt") -> str:
    """Refuse what is no prompt (or instruction, see ``noun``); return the stripped text.

    Raises:
        NotText: no string, or one with control characters or lone surrogates.
        PromptTooLong: more characters than the limit, outer white space not counted.
        EmptyPrompt: no word in it.
    """
    if not isinstance(value, str):
        raise NotText(f"the {noun} is of type {type(value).__name__}; send text")
    text = value.strip()
    if len(text) > LIMITS.text_characters:
        raise PromptTooLong(
            f"the {noun} has {len(text)} characters, the limit is {LIMITS.text_characters}; "
            "shorten it"
        )
    if not text.isprintable():
        _check_characters(text, noun)
    if not normalise(text):
        raise EmptyPrompt(
            f'the {noun} holds no words; write what to draw, for instance "draw a flamingo"'
        )
    return text


def _check_characters(text: str, noun: str) -> None:
    for at, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in _BLANKS:
            raise NotText(
                f"the {noun} holds the control character U+{ord(character):04X} at {at}; "
                "send plain text"
            )


@dataclass(frozen=True)
class Vocabulary:
    """The generator's output vocabulary: special symbols, then words by falling count."""

    entries: tuple[str, ...]  # the words, from id FIRST on

    PAD: ClassVar[int] = 0  # fills batches
    BOS: ClassVar[int] = 1  # before the first word
    EOS: ClassVar[int] = 2  # after the last word
    UNK: ClassVar[int] = 3  # any other word
    SEP: ClassVar[int] = 4  # between the instructions of an expansion
    LEAF: ClassVar[int] = 5  # instead of an expansion: the node is a leaf
    FIRST: ClassVar[int] = 6  # id of the first word

    @classmethod
    def of(cls, texts: Iterable[str], min_count: int = 1) -> Vocabulary:
        """The words that occur at least ``min_count`` times, the most frequent first."""
        counts = Counter(word for text in texts for word in words(text))
        frequent = (word for word, count in counts.items() if count >= min_count)
        return cls(tuple(sorted(frequent, key=lambda word: (-counts[word], word))))

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each word."""
        return {word: index for index, word in enumerate(self.entries, self.FIRST)}

    def __len__(self) -> int:
        """How many ids there are, the special ones counted."""
        return self.FIRST + len(self.entries)

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words, unknown ones as UNK; without BOS and EOS."""
        return [self.ids.get(word, self.UNK) for word in words(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first EOS: special ids are left out, UNK gives "<unk>"."""
        found: list[str] = []
        for index in map(int, ids):
            if index == self.EOS:
                break
            if index == self.UNK:
                found.append("<unk>")
            elif index >= self.FIRST:
                found.append(self.entries[index - self.FIRST])
        return " ".join(found)

    def to_json(self) -> str:
        """The vocabulary as the text of ``vocabulary.json``."""
        return json.dumps({"words": self.entries}, ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Vocabulary:
        """Read what `to_json` wrote.

        Raises:
            BundleCorrupt: it is something else.
        """
        try:
            raw = json.loads(text)
        except ValueError as exc:
            raise BundleCorrupt(f"the vocabulary is no JSON: {exc}; export it again") from exc
        found = raw.get("words") if isinstance(raw, dict) and raw.keys() == {"words"} else None
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise BundleCorrupt('the vocabulary is not {"words": [text, …]}; export it again')
        if len(set(found)) != len(found):
            raise BundleCorrupt("the vocabulary holds a word twice; export it again")
        return cls(tuple(found))
