"""Where a bundle's knowledge comes from, and under which terms."""

LICENCES = {
    "Quick, Draw! drawings": "CC BY 4.0, Google, https://github.com/googlecreativelab/quickdraw-dataset",
    "SPG part labels": (
        "Li et al., Universal Sketch Perceptual Grouping, ECCV 2018, as redistributed with "
        "SketchGNN (MIT)"
    ),
    "sketch-rnn samples": "drawn by models that Google published with sketch-rnn (Apache-2.0)",
    "token vectors": "distilled from sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)",
    "demonstrations and annotations": "made for HiTree (Apache-2.0)",
    "weights": "HiTree (Apache-2.0)",
}
"""Source -> licence with attribution; written into every manifest."""
