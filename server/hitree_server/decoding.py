"""Decoding of the instruction generator: beam search and top-k sampling over a step function.

Pure numpy, so that every strategy is tested with a step that knows what it says. All hypotheses
of a call move through one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any  # of numpy's floats

import numpy as np
from numpy.typing import NDArray

from hitree.text import Vocabulary

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

State = dict[str, Floats]
"""What the step hands on, by name: each (rows, …)."""

Step = Callable[[Ids, State], tuple[Floats, State]]
"""``step(token (R,), state)`` -> log-probabilities (R, V) and the next state."""

_NEVER = (Vocabulary.PAD, Vocabulary.BOS, Vocabulary.UNK)


@dataclass(frozen=True)
class Decoded:
    """One text of the generator."""

    ids: tuple[int, ...]  # without BOS and EOS
    log_probs: tuple[float, ...]  # of each id, and of EOS where it was reached

    @property
    def per_token(self) -> float:
        """Mean log-probability of a token, so that long texts are not punished."""
        return sum(self.log_probs) / max(len(self.log_probs), 1)


def beam(
    step: Step, state: State, rows: int, *, width: int, limit: int
) -> list[tuple[Decoded, ...]]:
    """The ``width`` best instructions of each of ``rows`` contexts, best first.

    ``state`` holds ``rows`` rows; no text is longer than ``limit`` tokens. A text is judged by its
    log-probability per token. A width of 1 is greedy decoding.
    """
    state = {name: np.repeat(value, width, axis=0) for name, value in state.items()}
    search = _Search.begin(rows, width, limit)
    for length in range(limit + 1):
        log_probs, state = step(search.last, state)
        _forbid(log_probs, (*_NEVER, Vocabulary.SEP, Vocabulary.LEAF))
        if length == 0:
            _forbid(log_probs, (Vocabulary.EOS,))  # an empty text is no instruction
        if length == limit:
            ends = log_probs[:, Vocabulary.EOS].copy()
            log_probs[:] = -np.inf
            log_probs[:, Vocabulary.EOS] = ends
        order = search.grow(log_probs, length)
        if not len(order):
            break
        state = {name: value[order] for name, value in state.items()}
    return [tuple(texts) for texts in search.done]


@dataclass
class _Search:
    """The hypotheses of a beam search, of all R contexts that are not decided side by side."""

    totals: NDArray[np.float64]  # (R, W) summed log-probability; -inf where nothing lives
    ids: Ids  # (R, W, limit + 1)
    log_probs: NDArray[np.float64]  # (R, W, limit + 1)
    last: Ids  # (R * W,) the token that each hypothesis ends with
    context: Ids  # (R,) the place of each context in ``done``
    done: list[list[Decoded]]  # of every context, the best W so far, best first

    @classmethod
    def begin(cls, rows: int, width: int, limit: int) -> _Search:
        totals = np.full((rows, width), -np.inf)
        totals[:, 0] = 0.0  # one hypothesis a context, else all would grow alike
        shape = (rows, width, limit + 1)
        start = np.full(rows * width, Vocabulary.BOS, np.int64)
        done: list[list[Decoded]] = [[] for _ in range(rows)]
        return cls(totals, np.zeros(shape, np.int64), np.zeros(shape), start, np.arange(rows), done)

    def grow(self, log_probs: Floats, length: int) -> Ids:
        """Add a token to each hypothesis; return the row that each one continues.

        Contexts that are decided leave, with all their hypotheses.
        """
        rows, width = self.totals.shape
        step = log_probs.reshape(rows, width, -1)
        totals = (self.totals[:, :, None] + step).reshape(rows, -1)  # (R, W * V)
        best = _largest(totals, width)  # (R, W)
        parent, token = np.divmod(best, step.shape[2])
        row = np.arange(rows)[:, None]
        self.totals = totals[row, best]
        self.ids, self.log_probs = self.ids[row, parent], self.log_probs[row, parent]
        self.ids[:, :, length] = token
        self.log_probs[:, :, length] = step[row, parent, token]
        self._end((token == Vocabulary.EOS) & np.isfinite(self.totals), length)
        self.totals[token == Vocabulary.EOS] = -np.inf
        open_ = self._undecided()
        self.totals, self.context = self.totals[open_], self.context[open_]
        self.ids, self.log_probs = self.ids[open_], self.log_probs[open_]
        self.last = token[open_].ravel()
        order: Ids = (row * width + parent)[open_].ravel()
        return order

    def _end(self, over: NDArray[np.bool_], length: int) -> None:
        """Keep the texts that are ``over`` (R, W) where they are among the best."""
        width = over.shape[1]
        for r, w in np.argwhere(over):
            found = self.ids[r, w, :length].tolist(), self.log_probs[r, w, : length + 1].tolist()
            texts = self.done[self.context[r]]
            texts.append(Decoded(tuple(found[0]), tuple(found[1])))
            texts.sort(key=lambda text: -text.per_token)
            del texts[width:]

    def _undecided(self) -> NDArray[np.bool_]:
        """Which contexts may get a text yet that is among their best (R,).

        No text is better than what lives would be if it went on for as long as it may, and each
        further word were certain.
        """
        rows, width = self.totals.shape
        least = np.full(rows, -np.inf)
        for row, context in enumerate(self.context.tolist()):
            if len(texts := self.done[context]) == width:
                least[row] = texts[-1].per_token
        undecided: NDArray[np.bool_] = self.totals.max(axis=1) / self.ids.shape[2] > least
        return undecided


def sample(
    step: Step,
    state: State,
    rngs: Sequence[np.random.Generator],
    samples: int,
    *,
    temperature: float,
    top_k: int,
    limit: int,
) -> list[Decoded]:
    """``samples`` expansions a context, sampled among the ``top_k`` most probable tokens a step.

    ``state`` holds one row a context, whose texts are made of the noise of one of ``rngs``. Texts
    that have begun alike share a row until they part, and leave the batch once they are over; none
    depends on another. The grammar of plan mode is kept: ``LEAF`` stands alone, no instruction is
    empty. An expansion that is not over after ``limit`` tokens is cut there. ``log_probs`` are the
    model's own, at temperature 1.
    """
    live = np.arange(len(rngs) * samples)
    ids = np.full((limit, len(live)), Vocabulary.EOS, np.int64)
    scores = np.zeros((limit, len(live)), np.float32)
    row = np.arange(len(rngs)).repeat(samples)  # of each live text
    last = np.full(len(rngs), Vocabulary.BOS, np.int64)  # token of each row
    for length in range(limit):
        log_probs, state = step(last, state)
        noise = np.concatenate([rng.random(samples) for rng in rngs])[live]
        token = _draw(_legal(log_probs, last), row, noise, temperature, top_k)
        ids[length, live], scores[length, live] = token, log_probs[row, token]
        goes_on = token != Vocabulary.EOS
        if not goes_on.any():
            break
        live = live[goes_on]
        begun = row[goes_on] * log_probs.shape[1] + token[goes_on]
        begun, row = np.unique(begun, return_inverse=True)
        parent, last = np.divmod(begun, log_probs.shape[1])
        state = {name: value[parent] for name, value in state.items()}
    lengths = (ids != Vocabulary.EOS).sum(axis=0).tolist()
    return [
        Decoded(tuple(words[:length]), tuple(log_probs[: length + 1]))
        for words, log_probs, length in zip(ids.T.tolist(), scores.T.tolist(), lengths, strict=True)
    ]


def _forbid(log_probs: Floats, ids: tuple[int, ...]) -> None:
    log_probs[:, list(ids)] = -np.inf


def _largest(values: NDArray[np.floating[Any]], count: int) -> Ids:
    """The places of the ``count`` largest values of each row, largest first: (R, count)."""
    if count == 1:
        places: Ids = values.argmax(axis=1)[:, None]
        return places
    row = np.arange(len(values))[:, None]
    places = np.argpartition(-values, count - 1, axis=1)[:, :count]
    best: Ids = places[row, np.argsort(-values[row, places], axis=1, kind="stable")]
    return best


def _legal(log_probs: Floats, last: Ids) -> Floats:
    """``log_probs`` without what may not follow ``last`` in an expansion."""
    legal: Floats = log_probs + _grammar(log_probs.shape[1])[np.minimum(last, Vocabulary.FIRST)]
    return legal


@lru_cache
def _grammar(words: int) -> Floats:
    """0 for what may follow, else -inf: (last, word), all that are not special having one row."""
    after = np.zeros((Vocabulary.FIRST + 1, words), np.float32)
    after[:, _NEVER] = -np.inf
    after[:, Vocabulary.LEAF] = -np.inf
    after[Vocabulary.BOS, Vocabulary.LEAF] = 0.0
    for empty in (Vocabulary.BOS, Vocabulary.SEP):
        after[empty, [Vocabulary.EOS, Vocabulary.SEP]] = -np.inf
    after[Vocabulary.LEAF] = -np.inf
    after[Vocabulary.LEAF, Vocabulary.EOS] = 0.0
    return after


def _draw(
    legal: Floats, row: Ids, noise: NDArray[np.float64], temperature: float, top_k: int
) -> Ids:
    """Inverse-CDF sampling of a token for each of ``noise`` (N,), most probable first.

    ``row`` (N,) says by which row of ``legal`` (R, V).
    """
    order = _largest(legal, min(top_k, legal.shape[1]))  # (R, K)
    logits = legal[np.arange(len(legal))[:, None], order].astype(np.float64) / temperature
    weights = np.exp(logits - logits[:, :1])
    cdf = np.cumsum(weights, axis=1)[row]  # (N, K)
    # The last place whose weight is not nil bounds the choice, whatever rounding does.
    last = (weights > 0).sum(axis=1)[row] - 1
    token: Ids = order[row, np.minimum((cdf < noise[:, None] * cdf[:, -1:]).sum(axis=1), last)]
    return token
