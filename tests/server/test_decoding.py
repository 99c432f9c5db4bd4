"""Decoding, with a step that says what it is told to."""

from itertools import pairwise

import numpy as np
import pytest

from hitree.text import Vocabulary
from hitree_server import decoding

PAD, BOS, EOS, UNK, SEP, LEAF = range(6)
A, B, C = 6, 7, 8
WORDS = 9


class Script:
    """Log-probabilities by what was written so far; rows know their own text by the state."""

    def __init__(self, table):
        self.table = table  # last token -> {token: probability}
        self.rows = []  # of every step

    def __call__(self, token, state):
        self.rows.append(len(token))
        log_probs = np.full((len(token), WORDS), -20.0, np.float32)
        for row, last in enumerate(token):
            for word, probability in self.table[int(last)].items():
                log_probs[row, word] = np.log(probability)
        return log_probs, {"h": state["h"] + 1}


def state(rows):
    return {"h": np.zeros((rows, 1), np.float32)}


GARDEN = {  # greedy takes A first; B is better in the end
    BOS: {A: 0.6, B: 0.4},
    A: {C: 0.4, B: 0.3, EOS: 0.3},
    B: {EOS: 0.99, C: 0.01},
    C: {EOS: 0.5, C: 0.5},
    EOS: {EOS: 1.0},
    PAD: {PAD: 1.0},
}


def test_a_beam_finds_what_greedy_decoding_misses():
    (greedy,) = decoding.beam(Script(GARDEN), state(1), 1, width=1, limit=5)
    (beam,) = decoding.beam(Script(GARDEN), state(1), 1, width=3, limit=5)
    assert greedy[0].ids[0] == A
    assert beam[0].ids == (B,)
    assert beam[0].per_token > greedy[0].per_token
    assert beam[0].per_token == pytest.approx(np.log([0.4, 0.99]).mean(), abs=1e-4)
    assert [text.per_token for text in beam] == sorted((t.per_token for t in beam), reverse=True)
    assert len({text.ids for text in beam}) == 3


def test_rows_of_a_beam_are_searched_side_by_side():
    rows = decoding.beam(Script(GARDEN), state(4), 4, width=2, limit=5)
    assert len(rows) == 4
    assert all(row == rows[0] for row in rows)


def plain_beam(table, width, limit):
    """The same search for one context, one hypothesis after the other, to the very end."""
    living, done = [((), ())], []
    for length in range(limit + 1):
        grown = []
        for ids, log_probs in living:
            for word, probability in table[ids[-1] if ids else BOS].items():
                if (word != EOS or length) and (word == EOS or length < limit):
                    grown.append(
                        ((*ids, word), (*log_probs, float(np.float32(np.log(probability)))))
                    )
        grown = sorted(grown, key=lambda text: -sum(text[1]))[:width]
        done += [(ids[:-1], log_probs) for ids, log_probs in grown if ids[-1] == EOS]
        living = [text for text in grown if text[0][-1] != EOS]
    return sorted(done, key=lambda text: -np.mean(text[1]))[:width]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", [1, 3])
def test_a_beam_that_stops_early_finds_what_one_that_goes_on_does(seed, width):
    rng = np.random.default_rng(seed)
    words = (EOS, A, B, C)
    table = {last: dict(zip(words, rng.dirichlet([0.5] * 4), strict=True)) for last in range(WORDS)}
    script = Script(table)
    found = decoding.beam(script, state(2), 2, width=width, limit=8)
    expected = plain_beam(table, width, 8)
    for texts in found:  # by value: words in another order may be as probable
        assert [text.per_token for text in texts[: len(expected)]] == pytest.approx(
            [np.mean(log_probs) for _, log_probs in expected]
        )


def test_a_beam_stops_once_nothing_that_lives_can_be_among_the_best():
    table = {BOS: {A: 0.98, B: 0.02}, A: {EOS: 0.99, B: 0.01}, B: {C: 0.9, EOS: 0.1}}
    table |= {C: {EOS: 0.9, C: 0.05}, EOS: {EOS: 1.0}}
    script = Script(table)
    (texts,) = decoding.beam(script, state(1), 1, width=2, limit=6)
    assert [text.ids for text in texts] == [(A,), (B, C)]
    assert len(script.rows) == 4


def test_contexts_that_are_decided_leave_the_batch():
    table = {BOS: {A: 0.9, B: 0.1}, A: {EOS: 0.99, B: 0.01}, B: {B: 0.99, EOS: 0.01}}
    table |= {key: {EOS: 1.0} for key in (EOS, C)}

    class Two(Script):
        """Its second context has nothing but the long way."""

        def __call__(self, token, state):
            log_probs, after = super().__call__(token, state)
            if (first := state["h"][:, 0] == 100).any():
                log_probs[first, A], log_probs[first, B] = -20.0, 0.0
            return log_probs, after

    script = Two(table)
    begun = {"h": np.array([[0], [100]], np.float32)}
    short, long = decoding.beam(script, begun, 2, width=1, limit=6)
    assert short[0].ids == (A,)
    assert set(long[0].ids) == {B}
    assert script.rows[:4] == [2, 2, 1, 1]


def test_a_text_without_an_end_is_cut_at_the_limit():
    endless = {key: {A: 0.9, B: 0.1} for key in range(WORDS)}
    (texts,) = decoding.beam(Script(endless), state(1), 1, width=2, limit=4)
    assert len(texts[0].ids) == 4


def test_a_beam_never_writes_special_words_nor_nothing():
    eager = {key: {EOS: 0.4, SEP: 0.2, LEAF: 0.2, UNK: 0.1, A: 0.1} for key in range(WORDS)}
    (texts,) = decoding.beam(Script(eager), state(1), 1, width=4, limit=3)
    assert all(set(text.ids) <= {A, B, C} and text.ids for text in texts)


def sampled(table, rows=64, **options):
    knobs = {"temperature": 1.0, "top_k": 20, "limit": 12, "rngs": [np.random.default_rng(1)]}
    knobs |= options
    rngs = knobs.pop("rngs")
    return decoding.sample(Script(table), state(len(rngs)), rngs, rows, **knobs)


def test_samples_follow_the_probabilities():
    coin = {BOS: {A: 0.75, B: 0.25}, A: {EOS: 1.0}, B: {EOS: 1.0}, EOS: {EOS: 1.0}}
    found = [text.ids for text in sampled(coin, rows=2000)]
    assert found.count((A,)) / 2000 == pytest.approx(0.75, abs=0.04)
    cold = [text.ids for text in sampled(coin, rows=200, temperature=0.1)]
    assert cold.count((A,)) == 200


def test_top_k_cuts_the_tail():
    flat = {BOS: {A: 0.4, B: 0.35, C: 0.25}, **{key: {EOS: 1.0} for key in (A, B, C, EOS)}}
    assert {text.ids for text in sampled(flat, top_k=2)} == {(A,), (B,)}


def test_samples_keep_the_grammar_of_expansions():
    wild = dict.fromkeys(range(WORDS), dict.fromkeys(range(WORDS), 1 / WORDS))
    for text in sampled(wild, rows=300, limit=30):
        ids = text.ids
        assert not {PAD, BOS, UNK, EOS} & set(ids)
        if LEAF in ids:
            assert ids == (LEAF,)
        else:
            assert ids[0] != SEP
            assert all(first != SEP or second != SEP for first, second in pairwise(ids))


def test_a_sample_does_not_depend_on_how_long_the_others_are():
    table = GARDEN | {SEP: {A: 1.0}}
    few = sampled(table, rows=8, rngs=[np.random.default_rng(3)], limit=2)
    many = sampled(table, rows=8, rngs=[np.random.default_rng(3)], limit=12)
    assert [text.ids[:2] for text in many] == [text.ids for text in few]


def test_what_is_sampled_for_one_context_does_not_depend_on_the_others():
    table = GARDEN | {SEP: {A: 1.0}}

    def rng(seed):
        return np.random.default_rng(seed)

    alone = sampled(table, rows=8, rngs=[rng(3)])
    beside = sampled(table, rows=8, rngs=[rng(5), rng(3), rng(6)])
    assert beside[8:16] == alone
    assert beside[:8] != alone


def test_texts_that_begin_alike_share_a_row_until_they_part():
    rows = []

    def step(token, state):
        """A or B, then C, then what came first."""
        rows.append(len(token))
        first = np.where(token == C, state["h"][:, 0], token).astype(np.int64)
        log_probs = np.full((len(token), WORDS), -20.0, np.float32)
        for row, last in enumerate(token):
            following = {BOS: [A, B], A: [C], B: [C], C: [first[row]]}[int(last)]
            log_probs[row, following] = -np.log(len(following))
        return log_probs, {"h": first[:, None].astype(np.float32)}

    rngs = [np.random.default_rng(1), np.random.default_rng(2)]
    found = decoding.sample(step, state(2), rngs, 32, temperature=1.0, top_k=20, limit=3)
    assert {text.ids for text in found[:32]} == {(A, C, A), (B, C, B)}
    assert [t.ids for t in found[:32]] != [t.ids for t in found[32:]]
    assert rows == [2, 4, 4]


def test_texts_that_are_over_leave_the_batch():
    table = {BOS: {A: 0.5, LEAF: 0.5}, A: {B: 1.0}, B: {EOS: 1.0}, LEAF: {EOS: 1.0}}
    script = Script(table)
    rngs = [np.random.default_rng(1)]
    found = decoding.sample(script, state(1), rngs, 64, temperature=1.0, top_k=20, limit=12)
    leaves = sum(text.ids == (LEAF,) for text in found)
    assert 0 < leaves < 64
    assert script.rows == [1, 2, 1]


def test_decoding_stops_when_all_are_over():
    table = {BOS: {A: 1.0}, A: {EOS: 1.0}, EOS: {EOS: 1.0}, PAD: {PAD: 1.0}}
    script = Script(table)
    decoding.beam(script, state(2), 2, width=1, limit=50)
    assert len(script.rows) == 2
    assert Vocabulary.EOS == EOS
