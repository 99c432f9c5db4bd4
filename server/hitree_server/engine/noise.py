"""Counter-based noise: a pure function of (seed, candidate, node, step in node).

So a drawing depends neither on its neighbours in the batch nor on when it joined, and any point
of it can be made again. The mixing is the finaliser of SplitMix64 (Steele, Lea & Flood, "Fast
splittable pseudorandom number generators", 2014), the generator that seeds xoshiro.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from hitree_server.engine.sequence import Floats

Keys = NDArray[np.uint64]

_MASK = (1 << 64) - 1
_GOLDEN, _M1, _M2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# 23 bits, centred: every value is exact in float32, and neither 0 nor 1 can come out.
_UNIT, _HALF = np.float32(2**-23), np.float32(2**-24)


def key(seed: int, candidate: int, node: int) -> int:
    """The noise key, 64 bits, of a row that draws ``node``; plain integers, once for each leaf."""
    mixed = _mix(seed + _GOLDEN)
    for part in (candidate, node):
        mixed = _mix(mixed ^ _salt(part))
    return mixed


def draw(keys: Keys, steps: Keys, width: int, ahead: int = 1) -> Floats:
    """Uniforms in (0, 1), (B, ``ahead``, width) float32, for rows with ``keys`` (B,).

    They are of the steps from ``steps`` (B,) on.
    """
    first = keys + steps * np.uint64(width * _GOLDEN & _MASK)
    bits: Keys = np.add.outer(first, _offsets(width * ahead))
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(_M1)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(_M2)
    bits ^= bits >> np.uint64(31)
    bits >>= np.uint64(41)
    return (bits.astype(np.float32) * _UNIT + _HALF).reshape(len(keys), ahead, width)


def uniforms(
    seeds: ArrayLike, candidates: ArrayLike, nodes: ArrayLike, steps: ArrayLike, width: int
) -> Floats:
    """Uniforms in (0, 1), (B, width) float32, one row for each (seed, candidate, node, step)."""
    parts = np.broadcast(
        *(np.asarray(part, np.uint64) for part in (seeds, candidates, nodes, steps))
    )
    rows = [(key(int(seed), int(c), int(node)), int(step)) for seed, c, node, step in parts]
    keys, counters = np.array(rows, np.uint64).T
    return draw(keys, counters, width)[:, 0]


@cache
def _offsets(width: int) -> Keys:
    return np.array([(j + 1) * _GOLDEN & _MASK for j in range(width)], np.uint64)


@lru_cache
def _salt(part: int) -> int:
    return _mix((part + 1) * _GOLDEN)


def _mix(value: int) -> int:
    value &= _MASK
    value = (value ^ (value >> 30)) * _M1 & _MASK
    value = (value ^ (value >> 27)) * _M2 & _MASK
    return value ^ (value >> 31)
