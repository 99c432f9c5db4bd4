"""The bundle's models behind typed calls, on a bundle made by the real export path."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from bundles import tiny_bundle, tiny_checkpoints
from hitree import bundle as core_bundle
from hitree.drawing import Drawing
from hitree.errors import BundleCorrupt, BundleIncomplete, Cancelled, MissingPackage, UnknownSubject
from hitree.segments import stroke_features
from hitree.text import words
from hitree_server.calls import Call
from hitree_server.errand import Errand
from hitree_server.models import DRAWN_LEVELS, GRAPHS, Models
from hitree_server.planner import Planner
from hitree_training import train_scorer

DRAWING = Drawing.of([[[10, 10], [90, 40]], [[50, 60]], [[5, 200], [80, 220], [200, 150]]])
SPANS = np.array([[0, 1], [0, 3], [2, 3]], np.int64)


@pytest.fixture(scope="module")
def bundle():
    return tiny_bundle()


@pytest.fixture(scope="module")
def models(bundle):
    return Models.load(bundle, threads=1)


def rng(seed=1):
    return np.random.default_rng(seed)


def test_subjects_and_settings_are_the_manifests(models, bundle):
    assert models.subjects == bundle.manifest.subjects
    assert models.settings["temperature"] == bundle.manifest.settings["temperature"]


def test_subjects_are_recognised(models):
    assert models.recognise("draw me a kitty").subject == "cat"
    with pytest.raises(UnknownSubject):
        models.recognise("draw a bicycle")
    assert models.recognise("draw a bicycle", nearest=True).subject in models.subjects


def test_embeddings_are_unit_vectors_of_one_space(models):
    segments = models.embed_segments(DRAWING, SPANS)
    texts = models.embed_texts(["add two ears", "draw a tail", "öß 漢"])
    assert segments.shape == texts.shape
    for vectors in (segments, texts):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(segments[0], segments[2])


def test_unity_is_what_the_network_says(models):
    network = train_scorer.load(tiny_checkpoints().scorer)
    strokes = torch.from_numpy(stroke_features(DRAWING))
    with torch.inference_mode():
        expected = network.unity(strokes, torch.from_numpy(SPANS)).numpy()
    found = models.unity(DRAWING, SPANS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(set(found.tolist())) == 3


def test_conditions_tell_stacks_and_subjects_apart(models):
    stacks = [("draw a cat",), ("draw a cat", "add two ears"), ("draw a cat", "add a tail")]
    cats, owls = models.conditions(stacks, "cat"), models.conditions(stacks, "owl")
    assert len({row.tobytes() for row in (*cats, *owls)}) == 6
    np.testing.assert_allclose(models.conditions(stacks[1:2], "cat"), cats[1:2], atol=1e-6)


def test_deep_stacks_keep_the_root_and_the_last_levels(models):
    deep = ("draw a cat", "far above", "step one", "step two", "step three")
    kept = (deep[0], *deep[3:])
    assert len(kept) == DRAWN_LEVELS
    np.testing.assert_array_equal(
        models.conditions([deep], "cat"), models.conditions([kept], "cat")
    )


def test_expansions_are_lists_of_instructions(models):
    stacks, rngs = [("draw a cat",)], [rng()]
    (found,) = models.expand(stacks, "cat", samples=24, temperature=1.0, rngs=rngs)
    assert len(found) == 24
    assert any(one.texts for one in found)
    for one in found:
        assert len(one.text_log_probs) == len(one.texts)
        assert all(words(text) for text in one.texts)
        assert one.log_prob < 0
        assert all(value < 0 for value in one.text_log_probs)


def test_expansions_read_a_level_more_than_drawings(models):
    deep = ("draw a cat", "far above", "step one", "step two", "step three")

    def expansions(*stack):
        return models.expand([stack], "cat", samples=4, temperature=1.0, rngs=[rng()])

    assert expansions(*deep) == expansions(deep[0], *deep[2:])
    assert expansions(*deep) != expansions(deep[0], *deep[3:])


def test_expansions_follow_the_seed(models):
    def texts(seed):
        stacks, rngs = [("draw a cat",), ("draw a cat", "draw a tail")], [rng(seed), rng(seed + 1)]
        return models.expand(stacks, "cat", samples=4, temperature=1.0, rngs=rngs)

    assert texts(1) == texts(1)
    assert texts(1) != texts(3)
    assert [len(one) for one in texts(1)] == [4, 4]


def test_a_node_is_expanded_alike_alone_and_with_its_neighbours(models):
    stacks = [("draw a cat",), ("draw a cat", "draw a tail"), ("draw a dog",)]
    together = models.expand(
        stacks, "cat", samples=4, temperature=1.0, rngs=[rng(1), rng(2), rng(3)]
    )
    alone = models.expand(stacks[1:2], "cat", samples=4, temperature=1.0, rngs=[rng(2)])
    assert together[1] == alone[0]


def test_descriptions_come_best_first(models):
    found = models.describe(DRAWING, SPANS, "cat", n_best=6)
    assert [len(one) for one in found] == [6, 6, 6]
    for one in found:
        assert [d.log_prob for d in one] == sorted((d.log_prob for d in one), reverse=True)
        assert len({d.text for d in one}) == 6
        assert all(words(d.text) for d in one)


def test_a_segment_is_described_alike_alone_and_among_others(models):
    together = models.describe(DRAWING, SPANS, "cat")
    alone = [models.describe(DRAWING, SPANS[i : i + 1], "cat")[0] for i in range(3)]
    assert [one[0].text for one in together] == [one[0].text for one in alone]


def test_subjects_of_drawings_are_told_wherever_and_however_large_they_are(models):
    found = models.classify(DRAWING)
    assert found.shape == (len(models.subjects),)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert (found > 0).all()
    small = Drawing.of([np.asarray(stroke) / 4 + 60 for stroke in DRAWING.strokes])
    np.testing.assert_allclose(models.classify(small), found, atol=1e-4)
    assert not np.allclose(models.classify(DRAWING.slice(0, 1)), found, atol=1e-4)


def test_a_classifier_of_other_subjects_is_corrupt(bundle):
    fewer = replace(bundle.manifest, subjects=bundle.manifest.subjects[1:])
    with pytest.raises(BundleCorrupt, match="tells 35 subjects, its manifest has 34"):
        Models.load(core_bundle.Bundle(bundle.path, fewer), threads=1)


def test_a_drawing_without_a_subject_is_described(models):
    assert words(models.describe(DRAWING, SPANS[:1], "")[0][0].text)


def test_calls_from_many_threads_do_not_mix(models):
    stacks = [(f"draw a {subject}",) for subject in models.subjects]
    expected = [models.conditions([stack], "cat") for stack in stacks]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda stack: models.conditions([stack], "cat"), stacks * 4))
    for index, one in enumerate(found):
        np.testing.assert_array_equal(one, expected[index % len(expected)])


def test_plans_made_side_by_side_are_those_made_alone(models):
    planner = Planner(models)

    def plan(seed):
        return planner.plan(f"draw a {models.subjects[seed]}", seed=seed, expansions=4)

    alone = [plan(seed) for seed in range(8)]
    assert len({made.root.text for made in alone}) == 8
    assert any(len(made.nodes) > 1 for made in alone)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(plan, [*range(8)] * 2)) == alone * 2


class Counted:
    """A session that does something before its ``at``-th run."""

    def __init__(self, session, at, act):
        self.session, self.at, self.act, self.runs = session, at, act, 0

    def run(self, names, feed):
        self.runs += 1
        if self.runs == self.at:
            self.act()
        return self.session.run(names, feed)


@pytest.mark.parametrize(
    ("graph", "at"), [("generator_expand", 1), ("generator_step", 3), ("generator_describe", 1)]
)
def test_work_that_is_called_off_stops_before_its_next_graph(models, monkeypatch, graph, at):
    errand = Errand("plan", Call.of("embedded"))
    sessions = {name: Counted(one, 0, None) for name, one in models._sessions.items()}
    sessions[graph] = Counted(models._sessions[graph], at, errand.call_off)
    monkeypatch.setattr(models, "_sessions", sessions)

    def work():
        if graph != "generator_describe":
            models.expand([("draw a cat",)], "cat", samples=4, temperature=1.0, rngs=[rng()])
        models.describe(DRAWING, SPANS, "cat")

    with errand.begun(), pytest.raises(Cancelled, match="plan"):
        work()
    assert sessions[graph].runs == at
    assert sessions["generator_step"].runs == (3 if graph == "generator_step" else 0)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_bundle_without_a_graph_is_incomplete(bundle, name):
    graphs = {other: file for other, file in bundle.manifest.graphs.items() if other != name}
    partial = core_bundle.Bundle(bundle.path, replace(bundle.manifest, graphs=graphs))
    with pytest.raises(BundleIncomplete, match=name):
        Models.load(partial, threads=1)


def test_a_missing_runtime_is_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackage, match=r"hitree\[server\]"):
        Models.load(bundle, threads=1)


def copy_of(bundle, tmp_path, **changed):
    files = {name: bundle.file(name).read_bytes() for name in bundle.manifest.sha256}
    fields = {k: v for k, v in vars(bundle.manifest).items() if k not in ("sha256", "format")}
    return core_bundle.write(tmp_path / "bundle", files | changed, fields)


@pytest.mark.parametrize(
    "name",
    [
        "classifier.onnx",
        "scorer_texts.onnx",
        "generator_step.onnx",
        "vocabulary.json",
        "tokens.npz",
    ],
)
def test_files_that_are_something_else_are_corrupt(bundle, tmp_path, name):
    with pytest.raises(BundleCorrupt):
        Models.load(copy_of(bundle, tmp_path, **{name: json.dumps({"no": 1}).encode()}), threads=1)


def test_a_file_that_vanished_is_named(bundle, tmp_path):
    copy = copy_of(bundle, tmp_path)
    copy.file("condition.onnx").unlink()
    with pytest.raises(BundleIncomplete, match=r"condition\.onnx"):
        Models.load(copy, threads=1)
