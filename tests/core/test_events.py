from typing import get_args

from hitree import events
from hitree.v1 import hitree_pb2 as pb


def test_the_union_has_one_class_for_every_kind_on_the_wire():
    on_the_wire = {field.name for field in pb.DrawEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert {cls.kind for cls in get_args(events.DrawEvent)} == on_the_wire - {"group"}
    assert len(get_args(events.DrawEvent)) == len(on_the_wire)


def test_finish_reasons_are_those_of_the_wire():
    words = {f"FINISH_REASON_{word.upper()}" for word in get_args(events.FinishReason)}
    assert words | {"FINISH_REASON_UNSPECIFIED"} == set(pb.FinishReason.keys())
