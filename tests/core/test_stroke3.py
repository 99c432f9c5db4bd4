import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from hitree.errors import EmptyDrawing, InvalidDrawing, InvalidInput
from hitree.stroke3 import SPLITS, load, to_strokes

ROWS = [
    np.array([[0, 0, 0], [3, -4, 1]], np.int16),
    np.array([[1, 2, 0], [3, 4, 1], [5, 6, 1]], np.int16),
]


def objects(arrays) -> np.ndarray:
    """An object array, as the published files hold them."""
    found = np.empty(len(arrays), object)
    for index, array in enumerate(arrays):
        found[index] = array
    return found


def pickled(path: Path, payload: bytes) -> Path:
    """An .npz whose member train is an object array with this pickle."""
    member = io.BytesIO()
    npy.write_array_header_1_0(member, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", member.getvalue() + payload)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_object_arrays_as_published(tmp_path, save):
    save(tmp_path / "cat.npz", train=objects(ROWS), valid=objects(ROWS[:1]), test=objects([]))
    found = load(tmp_path / "cat.npz")
    assert tuple(found) == SPLITS
    assert [rows.tolist() for rows in found["train"]] == [rows.tolist() for rows in ROWS]
    assert [len(found[split]) for split in SPLITS] == [2, 1, 0]


def test_plain_arrays_and_missing_splits(tmp_path):
    np.savez(tmp_path / "cat.npz", train=np.stack([ROWS[0], ROWS[0]]), other=np.zeros(3))
    found = load(tmp_path / "cat.npz")
    assert [rows.tolist() for rows in found["train"]] == [ROWS[0].tolist()] * 2
    assert list(found) == ["train"]


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", "<f8", "|i1"])
def test_every_protocol_that_numpy_wrote_with(tmp_path, protocol, dtype):
    rows = [np.asfortranarray(array.astype(dtype)) for array in ROWS]
    path = pickled(tmp_path / "x.npz", pickle.dumps(objects(rows), protocol))
    assert [found.tolist() for found in load(path)["train"]] == [each.tolist() for each in rows]


# What Python 2 wrote: module names, protocol 2, and bytes as text.
PYTHON2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
    b"(K\x01K\x01\x85cnumpy\ndtype\nq\x03U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK?tb\x89]h\x01h\x02K\x00\x85U\x01b\x87R(K\x01K\x01K\x03\x86h\x03U\x02i2K\x00"
    b"K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\xfe\xff\x80\x00"
    b"\x01\x00tbatb."
)


def test_a_file_of_python_2(tmp_path):
    (rows,) = load(pickled(tmp_path / "x.npz", PYTHON2))["train"]
    assert rows.tolist() == [[-2, 128, 1]]


class Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused(tmp_path, protocol):
    proof = tmp_path / "proof"
    attacks = [
        Attack(os.system, f"touch {proof}"),
        Attack(eval, f"open({str(proof)!r}, 'w')"),
        Attack(np.load, str(proof)),
        Attack(getattr, "text", "upper"),
    ]
    for attack in attacks:
        path = pickled(tmp_path / "x.npz", pickle.dumps([ROWS[0], attack], protocol))
        with pytest.raises(InvalidInput, match="it asks for"):
            load(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b".",
        b"garbage",
        pickle.dumps(5),
        pickle.dumps({"a": 1}),
        pickle.dumps([1, 2]),
        pickle.dumps([None]),
        pickle.dumps(objects([["a"]])),
        pickle.dumps(objects([np.array(["text"])]), 4),
        pickle.dumps(objects([np.array([(1, 2)], "i4,i4")]), 4),
        pickle.dumps(objects(ROWS), 4)[:-20],
        b"cnumpy\ndtype\n(S'i4,O8'\ntR.",
        b"cnumpy\nndarray\n(tR.",  # no state at all
        b"cnumpy\nndarray\n(tR(I1\n(I9\ntcnumpy\ndtype\n(S'i2'\ntRI00\nS'ab'\ntb.",  # too short
        b"cnumpy\nndarray\n}S'value'\nI1\nsb.",  # sets an attribute of a stand-in
        b"c_codecs\nencode\n(S'a'\nS'latin1'\ntR}S'a'\nI1\nsb.",
        b"c_codecs\nencode\n(S'a'\nS'utf-7'\ntR.",
    ],
)
def test_a_damaged_pickle_is_refused(tmp_path, payload):
    with pytest.raises(InvalidInput, match=r"x\.npz is no sketch-rnn file"):
        load(pickled(tmp_path / "x.npz", payload))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY", b"x" * 100])
def test_a_damaged_archive_is_refused(tmp_path, data):
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"x\.npz is no sketch-rnn file"):
        load(tmp_path / "x.npz")


def test_a_damaged_member_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", train=objects(ROWS * 50))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[60:90] = bytes(30)
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InvalidInput):
        load(tmp_path / "x.npz")


def test_strokes_are_summed_up_and_cut_where_the_pen_lifts():
    found = to_strokes(np.array([[1, 2, 0], [3, 4, 1], [5, 6, 1], [1, 1, 0]], np.int8), "x")
    assert [stroke.tolist() for stroke in found.strokes] == [
        [[1, 2], [4, 6]],
        [[9, 12]],
        [[10, 13]],
    ]


def test_sums_do_not_overflow_the_type_of_the_offsets():
    found = to_strokes(np.array([[100, 0, 0]] * 5, np.int8), "x")
    assert found.strokes[0][-1].tolist() == [500, 0]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (np.zeros((0, 3)), EmptyDrawing),
        (np.zeros((2, 2)), InvalidDrawing),
        (np.zeros(3), InvalidDrawing),
        (np.array([["a", "b", "c"]]), InvalidDrawing),
    ],
)
def test_rows_of_another_form_are_refused(rows, error):
    with pytest.raises(error, match="drawing 7"):
        to_strokes(rows, "drawing 7")
