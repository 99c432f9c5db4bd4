import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hitree import bundle
from hitree.bundle import MANIFEST, StateTensor, StepGraph, Tensor
from hitree.errors import BundleCorrupt, BundleIncomplete, InvalidInput

FILES = {"step.onnx": b"step", "text.onnx": b"text", "condition.onnx": b"condition"}


def graph(file: str) -> StepGraph:
    return StepGraph(
        file=file,
        inputs=(Tensor("noise", (5,)),),
        outputs=(Tensor("made", (2,)),),
        state=(StateTensor("row", (5,), output="row_out", initial=(0, 0, 0, 1, 0)),),
        noise=5,
    )


def describe(**changes) -> dict:
    return {
        "name": "hitree",
        "version": "0.1.0+abc",
        "git_sha": "abc",
        "data_hash": "def",
        "created": "2026-01-01T00:00:00Z",
        "graphs": {"condition": "condition.onnx"},
        "decoder": graph("step.onnx"),
        "generator": graph("text.onnx"),
        "subjects": ("cat", "sea turtle"),
        "scale": 1.0,
        "settings": {"temperature": 0.4},
        **changes,
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return bundle.write(tmp_path / "bundle", FILES, describe()).path


def change(path: Path, **changes) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def test_a_bundle_comes_back_as_it_was_written(written):
    found = bundle.load(written)
    expected = bundle.Manifest(**describe(), format=bundle.FORMAT, sha256=found.manifest.sha256)
    assert found.manifest == expected
    assert found.file("step.onnx").read_bytes() == b"step"
    assert set(found.manifest.sha256) == set(FILES)


PRECISE = replace(
    graph("step.onnx"), precisions={"int8": "text.onnx"}, best={"cpu": "int8", "cuda": "fp32"}
)


def test_the_best_precision_is_chosen_unless_one_is_asked_for(tmp_path):
    found = bundle.write(tmp_path / "bundle", FILES, describe(decoder=PRECISE))
    decoder = bundle.load(found.path).manifest.decoder
    assert decoder.choose("cpu") == ("int8", "text.onnx")
    assert decoder.choose("cuda") == decoder.choose("npu") == ("fp32", "step.onnx")
    assert decoder.choose("cuda", "int8") == ("int8", "text.onnx")
    with pytest.raises(InvalidInput, match="no fp16 graph of the decoder; it has fp32, int8"):
        decoder.choose("cpu", "fp16")


def test_a_best_precision_that_is_not_there_is_refused(tmp_path):
    missing = replace(PRECISE, precisions={})
    found = bundle.write(tmp_path / "bundle", FILES, describe(decoder=missing))
    with pytest.raises(BundleCorrupt, match="best precision on cpu, 'int8', is not there"):
        bundle.load(found.path)


def test_the_graph_of_rows_has_to_have_a_hash_where_there_is_one(tmp_path):
    moved = replace(PRECISE, dense=("int8",), rows="condition.onnx")
    bundle.write(tmp_path / "whole", FILES, describe(decoder=moved))
    assert bundle.load(tmp_path / "whole").manifest.decoder == moved
    bundle.write(tmp_path / "torn", FILES, describe(decoder=replace(moved, rows="rows.onnx")))
    with pytest.raises(BundleCorrupt, match=r"names rows\.onnx without a hash"):
        bundle.load(tmp_path / "torn")


def test_a_step_without_such_a_graph_can_be_read_too(tmp_path):
    written = bundle.write(tmp_path / "old", FILES, describe())
    path = written.file(MANIFEST)
    raw = json.loads(path.read_text())
    for name in ("rows", "dense"):
        del raw["decoder"][name]
    path.write_text(json.dumps(raw))
    decoder = bundle.load(tmp_path / "old").manifest.decoder
    assert (decoder.rows, decoder.dense) == ("", ())


def test_a_step_draws_one_row_unless_its_manifest_says_more(tmp_path):
    several = replace(graph("step.onnx"), stride=4)
    written = bundle.write(tmp_path / "bundle", FILES, describe(decoder=several))
    assert bundle.load(written.path).manifest.decoder == several
    raw = json.loads(written.file(MANIFEST).read_text())
    del raw["decoder"]["stride"]
    written.file(MANIFEST).write_text(json.dumps(raw))
    assert bundle.load(written.path).manifest.decoder.stride == 1


def test_writing_leaves_nothing_else_behind(written):
    assert [each.name for each in written.parent.iterdir()] == ["bundle"]
    assert {each.name for each in written.iterdir()} == {*FILES, MANIFEST}


def test_writing_again_replaces_the_whole(written):
    bundle.write(written, {**FILES, "step.onnx": b"other"}, describe(version="0.2.0"))
    assert bundle.load(written).manifest.version == "0.2.0"
    assert [each.name for each in written.parent.iterdir()] == ["bundle"]


def test_a_failed_write_leaves_the_old_bundle_alone(written):
    with pytest.raises(TypeError):
        bundle.write(written, FILES, describe(settings={"temperature": object()}))
    with pytest.raises(FileNotFoundError):
        bundle.write(written, {**FILES, "no/such/folder": b""}, describe())
    assert bundle.load(written).manifest.version == "0.1.0+abc"
    assert [each.name for each in written.parent.iterdir()] == ["bundle"]


def test_no_folder_and_no_manifest(tmp_path):
    with pytest.raises(BundleIncomplete, match="no bundle at"):
        bundle.load(tmp_path / "missing")
    with pytest.raises(BundleIncomplete, match=MANIFEST):
        bundle.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleIncomplete):
        bundle.load(tmp_path / "file")


def test_a_missing_file_is_named(written):
    (written / "text.onnx").unlink()
    with pytest.raises(BundleIncomplete, match=r"text\.onnx"):
        bundle.load(written)


@pytest.mark.parametrize("data", [b"", b"ste", b"stepp", b"stop"])
def test_a_changed_file_is_named(written, data):
    (written / "step.onnx").write_bytes(data)
    with pytest.raises(BundleCorrupt, match=r"step\.onnx has sha256"):
        bundle.load(written)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '"text"', "{}", '{"format": 1}', "\xff\xfe"]
)
def test_a_manifest_that_is_none(written, text):
    (written / MANIFEST).write_bytes(text.encode("latin1"))
    with pytest.raises(BundleCorrupt, match=MANIFEST):
        bundle.load(written)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"unknown": 1},
        {"sha256": ["step.onnx"]},
        {"sha256": {"step.onnx": 5}},
        {"settings": {"temperature": "hot"}},
        {"presets": 5},
        {"presets": {"decoder": ["width"]}},
        {"presets": {"decoder": {"width": None}}},
        {"graphs": "condition.onnx"},
        {"subjects": 5},
        {"decoder": None},
        {"decoder": {**asdict(graph("step.onnx")), "unknown": 1}},
        {"decoder": {**asdict(graph("step.onnx")), "stride": 0}},
        {"decoder": {**asdict(graph("step.onnx")), "stride": 1.5}},
        {"decoder": {"file": "step.onnx"}},
        {"decoder": {**asdict(graph("step.onnx")), "inputs": [{"name": "a", "size": 1}]}},
    ],
)
def test_a_manifest_with_wrong_or_unknown_keys(written, changes):
    change(written, **changes)
    with pytest.raises(BundleCorrupt, match=MANIFEST):
        bundle.load(written)


def test_every_graph_has_to_have_a_hash(written):
    change(written, graphs={"condition": "extra.onnx"})
    (written / "extra.onnx").write_bytes(b"nobody measured this")
    with pytest.raises(BundleCorrupt, match=r"extra\.onnx without a hash"):
        bundle.load(written)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", ".."])
def test_file_names_stay_inside_the_folder(written, name):
    change(written, sha256={name: "0"})
    with pytest.raises(BundleCorrupt, match="no plain file name"):
        bundle.load(written)
