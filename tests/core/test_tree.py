from dataclasses import replace

import pytest
from hypothesis import given

from hitree.errors import InvalidPlan
from hitree.limits import LIMITS
from hitree.tree import Node, Plan, build
from strategies import plans

CAT = [
    Node(0, None, "draw a cat"),
    Node(1, 0, "draw the head"),
    Node(2, 1, "add two ears"),
    Node(3, 1, "add whiskers"),
    Node(4, 0, "draw the tail"),
]
SPANS = {2: (0, 2), 3: (2, 3), 4: (3, 5)}


def cat() -> Plan:
    return Plan(build(CAT), "cat")


def test_nodes_leaves_and_stacks():
    plan = cat()
    assert [node.id for node in plan.nodes] == [0, 1, 2, 3, 4]
    assert [node.id for node in plan.leaves] == [2, 3, 4]
    assert plan.stack(3) == ("draw a cat", "draw the head", "add whiskers")
    assert plan.stack(0) == ("draw a cat",)


def test_a_plan_prints_as_a_tree():
    drawn = cat().with_spans(SPANS)
    assert str(drawn) == (
        "draw a cat  [0, 5)\n"
        "├─ draw the head  [0, 3)\n"
        "│  ├─ add two ears  [0, 2)\n"
        "│  └─ add whiskers  [2, 3)\n"
        "└─ draw the tail  [3, 5)"
    )
    assert str(cat()).splitlines()[-1] == "└─ draw the tail"


def test_parents_cover_their_children():
    drawn = cat().with_spans(SPANS)
    assert [(node.start, node.end) for node in drawn.nodes[:2]] == [(0, 5), (0, 3)]


def test_leaves_that_were_not_drawn_have_no_span_even_if_they_had():
    drawn = cat().with_spans(SPANS)
    again = drawn.with_spans({2: (0, 1), 3: (1, 4)})
    spans = [(node.start, node.end) for node in again.nodes]
    assert spans == [(None, None), (0, 4), (0, 1), (1, 4), (None, None)]


def test_equality_looks_at_the_whole_tree():
    other = Plan(build([*CAT[:4], replace(CAT[4], text="draw a long tail")]), "cat")
    assert cat() == cat()
    assert hash(cat()) == hash(cat())
    assert cat() != other
    assert cat() != replace(cat(), subject="dog")
    assert cat() != "draw a cat"


def test_a_deep_tree_is_walked_without_recursion():
    node = Node(5000, 4999, "leaf")
    for depth in range(4999, -1, -1):
        node = Node(depth, depth - 1 if depth else None, "", children=(node,))
    assert sum(1 for _ in node.walk()) == 5001


@given(plans())
def test_building_from_the_nodes_gives_the_plan_again(plan):
    assert replace(plan, root=build(list(plan.nodes))) == plan


@given(plans())
def test_leaves_drawn_in_turn_are_covered_by_the_root(plan):
    spans = {leaf.id: (at, at + 1) for at, leaf in enumerate(plan.leaves)}
    drawn = plan.with_spans(spans)
    assert (drawn.root.start, drawn.root.end) == (0, len(spans))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "1 to 64 nodes"),
        ([CAT[0], *(Node(i, 0, "") for i in range(1, LIMITS.plan_nodes + 1))], "64 nodes"),
        ([Node(1, None, "")], "has id 1"),
        ([Node(0, 0, "")], "only the root"),
        ([CAT[0], Node(1, None, "")], "only the root"),
        ([CAT[0], Node(1, 1, "")], "has parent 1"),
        ([CAT[0], Node(1, 7, "")], "has parent 7"),
        ([*CAT, Node(5, 1, "")], "has parent 1"),  # 1 is not on the way to 5
        ([Node(0, None, "", 0)], "one end"),
        ([Node(0, None, "", 3, 2)], "no span"),
        ([Node(0, None, "", -1, 2)], "no span"),
        ([Node(0, None, "", 0, 2), Node(1, 0, "", 1, 2)], "partition"),
        ([Node(0, None, "", 0, 2), Node(1, 0, "")], "partition"),
        ([Node(0, None, "", 0, 3), Node(1, 0, "", 0, 2)], "cover"),
        (
            [Node(0, None, "", 0, 3), Node(1, 0, "", 0, 2), Node(2, 0, "", 1, 3)],
            "partition",
        ),
    ],
)
def test_build_refuses_what_is_no_tree(nodes, message):
    with pytest.raises(InvalidPlan, match=message):
        build(nodes)
