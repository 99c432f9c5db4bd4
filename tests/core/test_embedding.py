from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from hitree.embedding import MAX_TOKENS, TABLE, TOKENIZER, TokenVectors
from hitree.errors import BundleCorrupt, BundleIncomplete

WORDS = {"[UNK]": 0, "draw": 1, "cat": 2, "whale": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))  # a token of text
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / TOKENIZER))
    table = np.array([[0, 0], [10, 0], [3, 4], [0, -10]], np.int8)
    scale = np.array([1, 0.1, 0.5, 0.2], np.float32)
    np.savez(tmp_path / TABLE, table=table, scale=scale)
    return tmp_path


def test_vectors_are_rows_times_their_scale(folder):
    vectors = TokenVectors.load(folder)
    assert vectors.width == 2
    found = vectors.vectors("Draw cat whale")  # the file's own padding and truncation are off
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[1, 0], [1.5, 2], [0, -2]]))


def test_long_texts_are_cut_and_empty_ones_have_one_row_of_zeros(folder):
    vectors = TokenVectors.load(folder)
    assert vectors.vectors("cat " * 100).shape == (MAX_TOKENS, 2)
    assert vectors.vectors("").tolist() == [[0, 0]]


def test_batches_are_filled_up_and_masked(folder):
    vectors = TokenVectors.load(folder)
    found, mask = vectors.batch(["draw cat", "cat", ""])
    assert found.shape == (3, 2, 2)
    assert mask.tolist() == [[1, 1], [1, 0], [1, 0]]
    assert found[1].tolist() == [[1.5, 2], [0, 0]]
    assert [array.shape for array in vectors.batch([])] == [(0, 1, 2), (0, 1)]


def test_sentences_have_length_one(folder):
    vectors = TokenVectors.load(folder)
    assert vectors.sentence("cat") == pytest.approx([0.6, 0.8])
    assert np.linalg.norm(vectors.sentence("draw cat")) == pytest.approx(1)
    assert vectors.sentence("").tolist() == [0, 0]


@pytest.mark.parametrize("name", [TABLE, TOKENIZER])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleIncomplete, match=name):
        TokenVectors.load(folder)


@pytest.mark.parametrize("name", [TABLE, TOKENIZER])
@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04 damaged", b"\xff"])
def test_a_damaged_file_is_named(folder, name, data):
    (folder / name).write_bytes(data)
    with pytest.raises(BundleCorrupt, match=name):
        TokenVectors.load(folder)


@pytest.mark.parametrize(
    "arrays",
    [
        {"table": np.zeros((4, 2), np.int8)},
        {"table": np.zeros((4, 2), np.float32), "scale": np.zeros(4)},
        {"table": np.zeros((4, 2), np.int8), "scale": np.zeros(3)},
        {"table": np.zeros((4, 2), object), "scale": np.zeros(4)},
        {"table": np.zeros((3, 2), np.int8), "scale": np.zeros(3)},  # a token without a row
    ],
)
def test_tables_of_another_form_are_refused(folder, arrays):
    np.savez(folder / TABLE, **arrays)
    with pytest.raises(BundleCorrupt, match=TABLE):
        TokenVectors.load(folder)
