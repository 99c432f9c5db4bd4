"""Instruction trees behind drawings: with models that know the answer, and with real ones."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from bundles import tiny_bundle
from hitree.drawing import Drawing
from hitree.errors import (
    EmptyDrawing,
    EmptyPrompt,
    InvalidInput,
    NotFinite,
    SinglePoint,
    TooManyStrokes,
    UnknownSubject,
)
from hitree.limits import LIMITS
from hitree_server import units
from hitree_server.annotator import Annotator, ScoreItem
from hitree_server.models import Described, Models
from hitree_server.subjects import Recognition

PARTS = ((0, 2), (2, 3), (3, 6))  # what the fake finds worth saying
TEXTS = {(0, 2): "add two ears", (2, 3): "add a nose", (3, 6): "put whiskers on both sides"}
WIDTH = 64


def axis(index):
    return np.eye(WIDTH, dtype=np.float32)[index % WIDTH]


@dataclass
class FakeModels:
    """Segments that are parts lie on their text's axis; all others are far from theirs."""

    subjects: tuple[str, ...] = ("cat", "owl")
    settings: dict[str, float] = field(default_factory=lambda: {"prune": 0.5})
    described: list[tuple] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    others: tuple[str, ...] = ()  # what a segment may be described by as well

    def recognise(self, prompt, nearest=False):  # noqa: ARG002
        if prompt not in self.subjects:
            raise UnknownSubject("none")
        return Recognition(prompt, 1.0)

    def embed_texts(self, texts):
        known = [*TEXTS.values(), "draw an owl", "draw a cat"]
        return np.stack([axis(known.index(t) if t in known else 40) for t in texts])

    def embed_segments(self, drawing, spans):
        parts = [*PARTS, (0, len(drawing.strokes))]
        return np.stack([axis(parts.index(s) if s in parts else 50)
                         for s in map(tuple, spans.tolist())])  # fmt: skip

    def unity(self, drawing, spans):  # noqa: ARG002
        self.judged.append(len(spans))
        return np.array([tuple(span) in PARTS for span in spans.tolist()], np.float32)

    def classify(self, drawing):
        return np.array([0.25, 0.75] if len(drawing.strokes) > 1 else [0.5, 0.5], np.float32)

    def describe(self, drawing, spans, subject, *, n_best=1, width=4):  # noqa: ARG002
        self.described.append((len(spans), width))
        return [
            [
                Described(text, -0.1 * i)
                for i, text in enumerate(
                    [TEXTS.get(tuple(span), "add a line"), *self.others][:n_best]
                )
            ]
            for span in spans.tolist()
        ]


def drawing(strokes, points=3):
    rng = np.random.default_rng(strokes)
    return Drawing.of([rng.random((points, 2)) * 200 for _ in range(strokes)])


def spans(plan):
    return [(node.start, node.end) for node in plan.nodes]


@pytest.mark.parametrize("parser", ["cky", "greedy", "bottom_up"])
def test_the_parts_are_found_and_told(parser):
    tree = Annotator(FakeModels()).annotate(drawing(6), parser=parser)
    if parser == "cky":  # the others are greedy and may miss some
        assert spans(tree) == [(0, 6), *PARTS]
        assert [node.text for node in tree.nodes[1:]] == list(TEXTS.values())
        assert [node.score for node in tree.nodes[1:]] == [1.0, 1.0, 1.0]
    assert tree.root.text == "draw an owl"
    assert spans(tree)[0] == (0, 6)


def test_the_subject_is_the_most_probable_one():
    tree = Annotator(FakeModels()).annotate(drawing(6))
    assert (tree.subject, tree.confidence) == ("owl", 0.75)
    assert (tree.prompt, tree.root.parent) == ("", None)


def test_a_scribble_has_a_subject_too_and_little_confidence():
    tree = Annotator(FakeModels()).annotate(drawing(1))
    assert (tree.subject, tree.confidence) == ("cat", 0.5)


def test_a_given_subject_is_taken():
    assert Annotator(FakeModels()).annotate(drawing(6), subject="cat").root.text == "draw a cat"
    with pytest.raises(UnknownSubject):
        Annotator(FakeModels()).annotate(drawing(6), subject="sofa")


def test_all_segments_are_judged_in_one_call_and_only_kept_ones_described():
    for parser in ("cky", "greedy", "bottom_up"):
        models = FakeModels()
        tree = Annotator(models).annotate(drawing(6), parser=parser)
        assert models.judged == [6 * 7 / 2]
        assert models.described == [(len(tree.nodes), 4)]


def test_a_node_says_something_else_than_the_one_above():
    models = FakeModels(others=("add a nose", "add a mouth"))
    models.unity = lambda _, spans: np.array(
        [tuple(span) in {(0, 3), (0, 2), (2, 3), (3, 6)} for span in spans.tolist()], np.float32
    )
    models.describe = lambda _drawing, spans, _subject, **_: [
        [Described(text, -0.1 * i) for i, text in enumerate(("add eyes", "put eyes", "add a nose"))]
        for _ in range(len(spans))
    ]
    tree = Annotator(models).annotate(drawing(6))
    assert spans(tree) == [(0, 6), (0, 3), (0, 2), (2, 3), (3, 6)]
    assert [n.text for n in tree.nodes[1:]] == [
        "add eyes",
        "add a nose",
        "add a nose",
        "add a nose",
    ]


def test_a_subject_without_words_is_named_in_the_error():
    with pytest.raises(EmptyPrompt, match="the subject holds no words"):
        Annotator(FakeModels()).annotate(drawing(3), subject=" ")


def test_the_root_is_described_where_that_names_the_subject():
    models = FakeModels()
    plain = models.describe

    def describe(drawing, spans, subject, **options):
        found = plain(drawing, spans, subject, **options)
        return [[Described("sketch a fat owl", -1.0)], *found[1:]]

    models.describe = describe
    assert Annotator(models).annotate(drawing(6)).root.text == "sketch a fat owl"
    assert Annotator(models).annotate(drawing(6), subject="cat").root.text == "draw a cat"


def test_max_nodes_bounds_the_tree():
    assert len(Annotator(FakeModels()).annotate(drawing(6), max_nodes=2).nodes) <= 2
    assert len(Annotator(FakeModels()).annotate(drawing(6), max_nodes=1).nodes) == 1


@pytest.mark.parametrize(
    ("strokes", "error"),
    [
        ([], EmptyDrawing),
        ([[[1, 1]]], SinglePoint),
        ([[[1, float("nan")], [2, 2]]], NotFinite),
        ([[[1, 1], [2, 2]]] * 513, TooManyStrokes),
    ],
)
def test_bad_drawings_are_refused_by_every_call(strokes, error):
    annotator = Annotator(FakeModels())
    bad = Drawing.of(strokes)
    for call in (
        lambda: annotator.annotate(bad),
        lambda: annotator.describe(bad, 0, 1),
        lambda: annotator.score(bad, [ScoreItem(0, 1, "add a line")]),
    ):
        with pytest.raises(error):
            call()


def test_bad_options_are_refused():
    annotator = Annotator(FakeModels())
    with pytest.raises(InvalidInput, match="parser"):
        annotator.annotate(drawing(3), parser="magic")
    with pytest.raises(InvalidInput, match="max_nodes"):
        annotator.annotate(drawing(3), max_nodes=65)
    for start, end in ((0, 0), (2, 1), (-1, 2), (0, 4)):
        with pytest.raises(InvalidInput, match="segment"):
            annotator.describe(drawing(3), start, end)
        with pytest.raises(InvalidInput, match="segment"):
            annotator.score(drawing(3), [ScoreItem(start, end, "add a line")])
    with pytest.raises(InvalidInput, match="n_best"):
        annotator.describe(drawing(3), 0, 1, n_best=17)
    with pytest.raises(InvalidInput, match="items"):
        annotator.score(drawing(3), [])
    with pytest.raises(EmptyPrompt, match="instruction"):
        annotator.score(drawing(3), [ScoreItem(0, 1, " ")])


def test_segments_are_described_and_scored():
    annotator = Annotator(FakeModels(others=("add a nose",)))
    found = annotator.describe(drawing(6), 0, 2, subject="cat", n_best=3)
    assert [one.text for one in found] == ["add two ears", "add a nose"]
    items = [ScoreItem(0, 2, "add two ears"), ScoreItem(0, 2, "add a nose")]
    assert annotator.score(drawing(6), items) == [1.0, 0.0]


# ---- drawings of very many strokes -------------------------------------------------------------


def test_few_strokes_are_units_of_their_own():
    assert units.cuts(drawing(units.MOST)).tolist() == list(range(units.MOST + 1))


def test_many_strokes_are_merged_where_they_lie_together():
    corners = np.array([[20, 20], [220, 20], [20, 220], [220, 220]])
    rng = np.random.default_rng(1)
    clusters = [corner + rng.random((3, 2)) * 30 for corner in corners for _ in range(25)]
    found = units.cuts(Drawing.of(clusters), most=4)
    assert found.tolist() == [0, 25, 50, 75, 100]


# ---- real models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def annotator():
    return Annotator(Models.load(tiny_bundle(), threads=1))


@pytest.mark.parametrize("strokes", [1, 2, 9])
def test_real_models_make_trees_that_partition_the_drawing(annotator, strokes):
    tree = annotator.annotate(drawing(strokes))
    assert spans(tree)[0] == (0, strokes)
    for node in tree.nodes:
        ends = [node.start, *(child.end for child in node.children)]
        assert [child.start for child in node.children] == ends[:-1]
        assert -1 <= node.score <= 1
        assert node.text
    assert tree.subject in tiny_bundle().manifest.subjects
    assert 0 < tree.confidence <= 1


def test_the_largest_drawing_is_annotated(annotator):
    points = LIMITS.drawing_points // LIMITS.drawing_strokes
    tree = annotator.annotate(drawing(LIMITS.drawing_strokes, points), subject="cat")
    assert spans(tree)[0] == (0, LIMITS.drawing_strokes)
    assert len(tree.nodes) > 2
    edges = itertools.chain.from_iterable(spans(tree))
    assert set(edges) <= set(units.cuts(drawing(LIMITS.drawing_strokes, points)).tolist())
