"""Static token vectors: what texts mean, without a transformer at run time.

Distilled from all-MiniLM-L6-v2 (Reimers & Gurevych, "Sentence-BERT", 2019), one vector a token.
Imports `tokenizers`, which the light SDK does not install: only training and server use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from tokenizers import Tokenizer

from hitree.errors import BundleCorrupt, BundleIncomplete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TABLE = "tokens.npz"
TOKENIZER = "tokenizer.json"
MAX_TOKENS = 32  # of a text; the rest is cut
MOST_KNOWN = 1024  # texts whose vectors are kept, 16 KB each at most


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """A vector for each token of a tokenizer."""

    tokenizer: Tokenizer
    table: NDArray[np.int8]  # (V, E)
    scale: NDArray[np.float32]  # (V,) what 1 in a row of the table stands for

    @classmethod
    def load(cls, folder: Path) -> TokenVectors:
        """Read ``tokens.npz`` and ``tokenizer.json`` of a folder.

        Raises:
            BundleIncomplete: one is missing.
            BundleCorrupt: one is not what it should be, or they do not fit together.
        """
        for name in (TABLE, TOKENIZER):
            if not (folder / name).is_file():
                raise BundleIncomplete(f"{folder / name} is missing; export the bundle again")
        table, scale = _load_table(folder / TABLE)
        tokenizer = _load_tokenizer(folder / TOKENIZER)
        if tokenizer.get_vocab_size() != len(table):
            raise BundleCorrupt(
                f"{folder}: {TABLE} has {len(table)} rows, {TOKENIZER} "
                f"{tokenizer.get_vocab_size()} tokens; export the bundle again"
            )
        return cls(tokenizer, table, scale)

    @property
    def width(self) -> int:
        """The length E of a vector."""
        return int(self.table.shape[1])

    def vectors(self, text: str) -> NDArray[np.float32]:
        """The vectors of a text's first 32 tokens: (T, E); T is 1, and zeros, for no tokens."""
        return self._lately(text)

    @cached_property
    def _lately(self) -> Callable[[str], NDArray[np.float32]]:
        """`_read` that remembers: instructions come again and again."""
        return lru_cache(MOST_KNOWN)(self._read)

    def _read(self, text: str) -> NDArray[np.float32]:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids[:MAX_TOKENS]
        found = self.table[ids] * self.scale[ids, None]
        found = found if ids else np.zeros((1, self.width), np.float32)
        found.flags.writeable = False
        return found

    def batch(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The vectors (B, T, E) of texts, filled up with zeros, and their mask (B, T)."""
        rows = [self.vectors(text) for text in texts]
        longest = max(map(len, rows), default=1)
        vectors = np.zeros((len(rows), longest, self.width), np.float32)
        mask = np.zeros((len(rows), longest), np.float32)
        for index, row in enumerate(rows):
            vectors[index, : len(row)], mask[index, : len(row)] = row, 1
        return vectors, mask

    def sentence(self, text: str) -> NDArray[np.float32]:
        """The mean vector of a text: (E,) of length 1; zeros for a text without tokens."""
        mean: NDArray[np.float32] = self.vectors(text).mean(axis=0)
        mean /= np.linalg.norm(mean) or 1
        return mean


def _load_table(path: Path) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            table, scale = arrays["table"], arrays["scale"]
    except (ValueError, KeyError, OSError, EOFError, TypeError, BadZipFile) as exc:
        raise BundleCorrupt(f"{path} holds no table: {exc}; export the bundle again") from exc
    if table.dtype != np.int8 or table.ndim != 2 or scale.shape != table.shape[:1]:
        raise BundleCorrupt(f"{path} has a table of another form; export the bundle again")
    return table, scale.astype(np.float32)


def _load_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as exc:  # tokenizers raises bare Exception
        raise BundleCorrupt(f"{path} is no tokenizer: {exc}; export the bundle again") from exc
    tokenizer.no_padding()  # the file asks for both, for the transformer that it was made for
    tokenizer.no_truncation()
    return tokenizer
