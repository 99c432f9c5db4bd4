"""The bundle's graphs as they are: tensors in, tensors out, for the Open Inference Protocol.

What is asked of them does not go through the engine: a step of the decoder is one step, whose
state is the caller's to keep.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: onnxruntime has no types, and arrays of all types

import numpy as np
from numpy.typing import NDArray

from hitree.errors import InvalidInput, UnknownModel
from hitree.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Array = NDArray[Any]

PLATFORM = "onnxruntime_onnx"
# The protocol's names of types, ONNX Runtime's and numpy's.
DATATYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
_KINDS = {"FP32": "iuf", "INT64": "iu"}  # numpy's letters for what a list of elements may be
_ONNX = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that a model reads or writes."""

    name: str
    datatype: str  # a key of `DATATYPES`
    shape: tuple[int, ...]  # -1 where any length will do


@dataclass(frozen=True, eq=False)
class RawModel:
    """One graph."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    session: Any  # an onnxruntime.InferenceSession

    @classmethod
    def of(cls, name: str, session: Any) -> RawModel:
        """The graph of a session."""
        inputs, outputs = session.get_inputs(), session.get_outputs()
        return cls(name, tuple(map(_info, inputs)), tuple(map(_info, outputs)), session)

    def infer(self, tensors: Mapping[str, Array], wanted: Sequence[str] = ()) -> dict[str, Array]:
        """Run the graph; ``wanted`` are outputs, none: all of them.

        Raises:
            InvalidInput: a tensor is missing, unknown, of another type or shape, or holds values
                that the graph cannot read.
        """
        self._check(tensors)
        known = [one.name for one in self.outputs]
        names = list(dict.fromkeys(wanted)) or known
        if not set(names) <= set(known):
            raise InvalidInput(f"{self.name} has the outputs {known}, not all of {names}")
        try:
            made = self.session.run(names, dict(tensors))
        except Exception as exc:  # the runtime has one class a status, and no common base
            raise InvalidInput(
                f"{self.name} cannot run on these tensors: {exc}; do their lengths fit together, "
                "and are indices within them?"
            ) from exc
        if (size := sum(array.nbytes for array in made)) > MADE_BYTES:
            raise InvalidInput(
                f"{self.name} made {size} bytes, the limit is {MADE_BYTES}; ask for fewer rows or "
                "outputs"
            )
        return dict(zip(names, made, strict=True))

    def _check(self, tensors: Mapping[str, Array]) -> None:
        infos = {one.name: one for one in self.inputs}
        if tensors.keys() != infos.keys():
            raise InvalidInput(f"{self.name} reads {sorted(infos)}, not {sorted(tensors)}")
        for name, tensor in tensors.items():
            info = infos[name]
            fits = len(tensor.shape) == len(info.shape) and all(
                want in (-1, have) for want, have in zip(info.shape, tensor.shape, strict=True)
            )
            if not fits or tensor.dtype != DATATYPES[info.datatype] or not tensor.size:
                raise InvalidInput(
                    f"{name} of {self.name} is {info.datatype} {list(info.shape)}, not "
                    f"{tensor.dtype} {list(tensor.shape)}; -1 is any length from 1 up"
                )


@dataclass(frozen=True, eq=False)
class Inferred:
    """What a model made."""

    version: str  # of the bundle that it is of
    outputs: list[tuple[TensorInfo, Array]]


class RawModels:
    """The graphs of one bundle, by name."""

    def __init__(self, models: Iterable[RawModel], version: str) -> None:
        """``version``: of the bundle, which is that of all of them."""
        self._models = {model.name: model for model in models}
        self.version = version

    @property
    def names(self) -> tuple[str, ...]:
        """What can be asked for, sorted."""
        return tuple(sorted(self._models))

    def get(self, name: str) -> RawModel:
        """A model.

        Raises:
            UnknownModel: there is none of this name.
        """
        if name not in self._models:
            raise UnknownModel(
                f"there is no model {name!r}; of version {self.version!r} there are "
                f"{', '.join(self.names)}"
            )
        return self._models[name]


def check_names(names: Iterable[str]) -> None:
    """Refuse tensors of which two have one name.

    Raises:
        InvalidInput: there are.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInput(f"the input {twice[0]} came more than once; send each once")


RANK = 8  # axes of a tensor; no graph has as many, and their product is to be taken at once
# Of what a graph made; what tells of it has to fit the reply, too.
MADE_BYTES = LIMITS.message_bytes - 16 * 1024


def tensor(name: str, datatype: str, shape: Sequence[int], data: bytes | Sequence[Any]) -> Array:
    """A tensor as it came: little-endian bytes, or a flat list of its elements.

    Raises:
        InvalidInput: the type is not known, or the shape does not fit what came.
    """
    if datatype not in DATATYPES:
        raise InvalidInput(f"{name} is of {datatype}; the models read {', '.join(DATATYPES)}")
    dtype = DATATYPES[datatype]
    axes = shape[: RANK + 1]
    # An axis of no length hides how long the others are.
    small = math.prod(max(1, axis) for axis in axes) * dtype.itemsize <= LIMITS.message_bytes
    if len(axes) > RANK or min(axes, default=1) < 0 or not small:
        raise InvalidInput(f"{name} cannot have the shape {list(axes)}")
    count = math.prod(axes)
    given, wanted, noun = len(data), count, "elements"
    if isinstance(data, bytes):
        wanted, noun = count * dtype.itemsize, "bytes"
    if given != wanted:
        raise InvalidInput(
            f"{name} has the shape {list(axes)}, which takes {wanted} {noun}, and came with {given}"
        )
    flat = np.frombuffer(data, dtype) if isinstance(data, bytes) else _flat(name, datatype, data)
    made: Array = flat.reshape(tuple(shape))
    return made


def _flat(name: str, datatype: str, data: Sequence[Any]) -> Array:
    """Numbers as an array; text, flags and cut fractions are not taken for numbers."""
    try:
        # By their types first: numpy would make every element as large as the longest text.
        if not set(map(type, data)) <= {int, float}:
            raise TypeError("its elements are not all numbers")
        if (found := np.array(data)).dtype.kind not in _KINDS[datatype]:
            raise TypeError(f"numpy takes its elements for {found.dtype}")
        with np.errstate(over="ignore"):  # beyond FP32 is infinite, as it is in bytes
            return np.array(data, DATATYPES[datatype])
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidInput(f"{name} is not made of {datatype}: {exc}") from exc


def _info(tensor: Any) -> TensorInfo:
    shape = tuple(length if isinstance(length, int) else -1 for length in tensor.shape)
    return TensorInfo(tensor.name, _ONNX[tensor.type], shape)
