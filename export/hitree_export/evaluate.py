"""Measure a bundle on held-out drawings: ``hitree-export evaluate``.

The networks are read out of the bundle's graphs, bit for bit, and the code of ``hitree-train
evaluate`` measures them: so its figures are about what ships, the likelihoods included, which the
decoder's step cannot tell since it samples inside, and they compare with the checkpoints' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any  # Any: JSON

from hitree import bundle as bundles
from hitree_export import networks
from hitree_training import evaluate as measures
from hitree_training.trained import MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_training.evaluation.tables import Options


def evaluate(path: Path, options: Options) -> dict[str, Any]:
    """Measure the bundle at ``path`` as `hitree_training.evaluate.evaluate` does it.

    Raises:
        hitree.errors.BundleError: the bundle is incomplete or corrupt.
        ExportError: it is of a version whose graphs do not name their weights.
        hitree_training.evaluation.tables.EvaluationError: a table lacks what it needs.
        hitree_training.data.DataError: the data set has no drawings of the split.
    """
    bundle = bundles.load(path)
    manifest = bundle.manifest
    origin = {
        "bundle": manifest.version,
        "git_sha": manifest.git_sha,
        "data_hash": manifest.data_hash,
    }
    return measures.evaluate(networks.of_bundle(bundle), dict.fromkeys(MODELS, origin), options)
