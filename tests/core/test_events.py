from typing import get_args

from hitree import events
from hitree.v1 import hitree_pb2 as pb


def test_the_union_has_one_class_for_every_kind_on_the_wire():
    fields = pb.DrawEvent.DESCRIPTOR.oneofs_by_name["event"].fields
    on_the_wire = {field.name for field in fields} - {"group"}  # holds the others
    assert {cls.kind for cls in get_args(events.DrawEvent)} == on_the_wire
    assert len(get_args(events.DrawEvent)) == len(on_the_wire)


def test_finish_reasons_are_those_of_the_wire():
    words = {f"FINISH_REASON_{word.upper()}" for word in get_args(events.FinishReason)}
    assert words | {"FINISH_REASON_UNSPECIFIED"} == set(pb.FinishReason.keys())
