"""Plans from prompts, with models that say what they are told to."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from hitree.errors import InvalidInput, UnknownSubject
from hitree_server.models import Expansion
from hitree_server.planner import Planner
from hitree_server.subjects import Recognition

STEPS = ("draw the body", "add a long neck", "put two thin legs below")


@dataclass
class FakeModels:
    """Expands stacks by a table; odd texts lie far from all others."""

    table: dict[str, list[Expansion]]
    subjects: tuple[str, ...] = ("cat", "flamingo")
    settings: dict[str, float] = field(default_factory=dict)
    calls: list[dict] = field(default_factory=list)

    def recognise(self, prompt, nearest=False):
        if "flamingo" in prompt:
            return Recognition("flamingo", 1.0)
        if nearest:
            return Recognition("cat", 0.2)
        raise UnknownSubject("none", details={"nearest": "cat"})

    def embed_texts(self, texts):
        vectors = np.array([[1.0, float("odd" in text) * 9] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def expand(self, stacks, subject, *, samples, temperature, rngs):
        self.calls += [
            {"stack": stack, "subject": subject, "noise": rng.random(),
             "samples": samples, "temperature": temperature}
            for stack, rng in zip(stacks, rngs, strict=True)
        ]  # fmt: skip
        return [self.table.get(stack[-1], [LEAF] * samples) for stack in stacks]


LEAF = Expansion((), -0.1)
GOOD = Expansion(STEPS, -1.0, (-0.5, -1.0, -1.5))


def plan(table, prompt="draw a flamingo", **options):
    models = FakeModels(table)
    return Planner(models).plan(prompt, seed=options.pop("seed", 1), **options), models


def root_of(expansions):
    return {"draw a flamingo": expansions}


def test_a_plan_has_the_root_and_its_steps():
    made, models = plan(root_of([GOOD]), prompt="flamingo")
    assert made.root.text == "draw a flamingo"
    assert (made.subject, made.confidence, made.prompt) == ("flamingo", 1.0, "flamingo")
    assert tuple(leaf.text for leaf in made.leaves) == STEPS
    assert [node.score for node in made.nodes] == [None, -0.5, -1.0, -1.5]
    assert all(node.start is None and node.end is None for node in made.nodes)
    assert models.calls[1]["stack"] == ("draw a flamingo", "draw the body")


def test_the_most_probable_expansion_wins():
    better = Expansion(("draw an oval body", "add a neck", "add legs"), -0.5)
    made, _ = plan(root_of([GOOD, better, GOOD]))
    assert made.nodes[1].text == "draw an oval body"


def test_steps_that_do_not_fit_their_parent_lose():
    odd = Expansion(("add odd things", "add odd lines", "add odd dots"), -0.8)
    made, _ = plan(root_of([odd, GOOD]))
    assert made.nodes[1].text == STEPS[0]


def test_steps_that_say_the_same_lose():
    alike = Expansion(("draw the body", "add a big body", "add the whole body"), -0.9)
    made, _ = plan(root_of([alike, GOOD]))
    assert tuple(leaf.text for leaf in made.leaves) == STEPS


@pytest.mark.parametrize(
    "texts",
    [
        ("draw the body", "draw the body", "add a neck"),
        ("draw the the body", "add a neck", "add legs"),
        ("draw the body", "add a long neck and a neck", "add legs"),
        ("draw the body", "neck", "add legs"),
        ("draw a flamingo", "add a neck", "add legs"),
        ("draw the body", "add a cat", "add legs"),
        ("draw the body", "add a neck"),
    ],
    ids=[
        "repeats",
        "stammers",
        "repeats a thing",
        "too short",
        "echoes its parent",
        "other subject",
        "few steps",
    ],
)
def test_degenerate_expansions_lose(texts):
    made, _ = plan(root_of([Expansion(texts, -0.01), GOOD]))
    assert tuple(leaf.text for leaf in made.leaves) == STEPS


def test_the_root_takes_a_degenerate_expansion_rather_than_none():
    only = Expansion(("draw the body", "draw the body"), -1.0)
    made, _ = plan(root_of([only, LEAF, LEAF]))
    assert len(made.nodes) == 3


def test_a_root_that_cannot_be_expanded_is_a_plan_of_one_leaf():
    made, _ = plan({})
    assert (len(made.nodes), len(made.leaves)) == (1, 1)


def test_nodes_are_expanded_down_to_the_depth():
    inner = Expansion(("draw an oval", "add a tail"), -1.0)
    deep = Expansion(("draw half of it", "draw the other half"), -1.0)
    table = root_of([GOOD]) | {"draw the body": [inner, inner, LEAF], "draw an oval": [deep]}
    made, _ = plan(table)
    assert made.stack(2) == ("draw a flamingo", "draw the body", "draw an oval")
    assert [node.parent for node in made.nodes] == [None, 0, 1, 1, 0, 0]
    assert len(plan(table, max_depth=1)[0].nodes) == 4
    assert len(plan(table, max_depth=3)[0].nodes) == 8


def test_what_most_samples_call_a_leaf_is_one():
    inner = Expansion(("draw an oval", "add a tail"), -0.1)
    made, _ = plan(root_of([GOOD]) | {"draw the body": [LEAF, LEAF, inner]})
    assert len(made.nodes) == 4


def test_the_limit_on_nodes_holds():
    inner = Expansion(("draw an oval", "add a tail"), -1.0)
    table = root_of([GOOD]) | {key: [inner] for key in STEPS}
    assert len(plan(table)[0].nodes) == 10
    assert len(plan(table, max_nodes=7)[0].nodes) == 6
    assert len(plan(table, max_nodes=3)[0].nodes) == 1


def test_noise_is_a_function_of_seed_and_place():
    first, second, other = (plan(root_of([GOOD]), seed=seed)[1].calls for seed in (1, 1, 2**64 - 1))
    assert [c["noise"] for c in first] == [c["noise"] for c in second]
    assert not {c["noise"] for c in first} & {c["noise"] for c in other}
    assert len({c["noise"] for c in first}) == len(first)


def test_options_reach_the_model():
    _, models = plan(root_of([GOOD]), expansions=3, temperature=1.5)
    assert (models.calls[0]["samples"], models.calls[0]["temperature"]) == (3, 1.5)


@pytest.mark.parametrize(
    "option",
    [{"expansions": 65}, {"expansions": -1}, {"max_depth": 65}, {"max_nodes": 65},
     {"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": 2.1}],
)  # fmt: skip
def test_options_out_of_range_are_refused(option):
    with pytest.raises(InvalidInput, match=next(iter(option))):
        plan({}, **option)


def test_unknown_subjects_are_an_error_unless_the_nearest_will_do():
    with pytest.raises(UnknownSubject):
        plan({}, prompt="draw a bicycle")
    made, _ = plan({}, prompt="draw a bicycle", nearest=True)
    assert (made.subject, made.confidence) == ("cat", 0.2)
