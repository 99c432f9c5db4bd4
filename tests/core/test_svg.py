from xml.etree import ElementTree

import pytest
from hypothesis import given

from hitree.drawing import Drawing
from hitree.svg import INK, PALETTE, leaf_colours, to_svg
from hitree.tree import Node, Plan, build
from strategies import drawings, texts

SVG = "{http://www.w3.org/2000/svg}"
DRAWING = Drawing.of([[[1, 2.25], [3, 4]], [[5, 6]]])


def test_one_path_a_stroke_in_the_frames_units():
    root = ElementTree.fromstring(to_svg(DRAWING, title="a flamingo"))
    assert root.attrib["viewBox"] == "0 0 256 256"
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == "a flamingo"
    group = root.find(f"{SVG}g")
    assert group.attrib["stroke-linecap"] == "round"
    paths = group.findall(f"{SVG}path")
    assert [path.attrib["d"] for path in paths] == ["M1 2.25L3 4", "M5 6L5 6"]
    assert {path.attrib["stroke"] for path in paths} == {INK}


def test_strokes_can_have_a_colour_each():
    root = ElementTree.fromstring(to_svg(DRAWING, colours=["red", 'b"<']))
    assert [path.attrib["stroke"] for path in root.iter(f"{SVG}path")] == ["red", 'b"<']
    with pytest.raises(ValueError, match="shorter"):
        to_svg(DRAWING, colours=["red"])


def test_strokes_of_a_leaf_share_their_colour():
    nodes = [Node(0, None, ""), Node(1, 0, ""), Node(2, 0, ""), Node(3, 0, "")]
    plan = Plan(build(nodes))
    drawn = plan.with_spans({1: (1, 3), 2: (3, 4)})
    expected = [INK, PALETTE[0], PALETTE[0], PALETTE[1], INK]
    assert leaf_colours(drawn, 5) == expected
    assert leaf_colours(drawn, 2) == expected[:2]
    assert leaf_colours(plan, 2) == [INK, INK]


@given(drawings, texts)
def test_any_title_and_drawing_is_well_formed(drawing, title):
    markup = to_svg(drawing, title=title)
    assert len(list(ElementTree.fromstring(markup).iter(f"{SVG}path"))) == len(drawing.strokes)
