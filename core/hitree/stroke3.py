"""sketch-rnn's ``.npz`` files: rows ``(dx, dy, lift)`` in arrays train, valid and test.

The published files hold *object* arrays, which numpy stores as pickles, and a pickle can run any
code when it is loaded. So nothing here unpickles with numpy: the pickle is read by an unpickler
that knows numpy's array, its type and bytes only, each replaced by a stand-in of this module that
can build nothing but numbers and lists. A file that asks for anything else is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any  # Any: what a pickle holds is checked afterwards

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hitree.drawing import Drawing
from hitree.errors import EmptyDrawing, InvalidDrawing, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

SPLITS = ("train", "valid", "test")

_CODES = re.compile(r"[iuf][1248]|O[48]?")
# What reading a damaged or hostile archive, header or pickle raises.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)

Rows = NDArray[Any]
"""(T, 3) numbers: offset x, offset y, 1 where the pen lifts after the point."""


def load(path: Path) -> dict[str, list[Rows]]:
    """Read the sequences of each split that the file has.

    Raises:
        InvalidInput: the file is damaged or holds anything but arrays of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            found = [split for split in SPLITS if f"{split}.npy" in members]
            return {split: _member(archive, f"{split}.npy") for split in found}
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except _DAMAGE as exc:
        raise InvalidInput(
            f"{path} is no sketch-rnn file: {exc}; expected an .npz with stroke-3 arrays "
            f"{', '.join(SPLITS)}"
        ) from exc


def to_strokes(rows: Rows, noun: str) -> Drawing:
    """Sum up offsets from the origin into strokes.

    Raises:
        InvalidDrawing: the rows are not (T, 3) numbers, or there is none.
    """
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iuf":
        raise InvalidDrawing(f"{noun} has shape {rows.shape}; expected (T, 3) numbers")
    if not len(rows):
        raise EmptyDrawing(f"{noun} has no points")
    points = np.cumsum(rows[:, :2], axis=0, dtype=np.float64).astype(np.float32)
    cuts = np.flatnonzero(rows[:, 2] > 0) + 1
    return Drawing(tuple(stroke for stroke in np.split(points, cuts) if len(stroke)))


def _member(archive: zipfile.ZipFile, name: str) -> list[Rows]:
    with archive.open(name) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(file)
        if dtype.hasobject:
            return _sequences(_Unpickler(file, encoding="latin1").load(), name)
    with archive.open(name) as file:
        return list(npy.read_array(file, allow_pickle=False))


def _sequences(value: object, name: str) -> list[Rows]:
    items = value.value() if isinstance(value, _Array) else value
    if not isinstance(items, list):
        raise ValueError(f"{name} holds no list of sequences")
    arrays: list[Any] = [item.value() if isinstance(item, _Array) else item for item in items]
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise ValueError(f"{name} holds something else than arrays of numbers")
    return arrays


class _Dtype:
    """Stands in for ``numpy.dtype``: numbers and objects only."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _CODES.fullmatch(code):
            raise pickle.UnpicklingError(f"it holds an array of type {code!r}")
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """Stands in for ``numpy.ndarray``: keeps what the pickle says until it is looked at."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> list[Any] | Rows:
        """The numbers as an array, or the objects as a list."""
        _, shape, dtype, fortran, data = self.state
        if dtype.code.startswith("O"):
            return list(data)
        if isinstance(data, str):  # Python 2 wrote bytes as text
            data = data.encode("latin1")
        numbers: Rows = np.frombuffer(data, dtype.order + dtype.code)
        return numbers.reshape(shape, order="F" if fortran else "C")


class _Bytes(bytes):
    """Stands in for ``_codecs.encode``, which protocol 2 makes bytes with."""

    def __new__(cls, text: str, encoding: str) -> _Bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it holds text in {encoding!r}")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"it gives bytes the state {state!r}")


# Classes with a __setstate__ all, since a pickle may set the attributes of anything that has none.
_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _STAND_INS.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found
