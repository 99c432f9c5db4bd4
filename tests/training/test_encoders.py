"""The encoders' promises: masks, batching, and the step that equals the sequence."""

from __future__ import annotations

import torch

from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.models.scorer import Scorer, ScorerPreset
from hitree_training.models.segment_encoder import SegmentEncoder
from hitree_training.models.text_encoder import TextEncoder

WIDTH, TOKENS = 16, 12


def test_text_without_tokens_is_zero_and_padding_changes_nothing() -> None:
    encoder = TextEncoder(TOKENS, WIDTH)
    tokens = torch.randn(2, 5, TOKENS)
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    both = encoder(tokens, mask)
    assert both[1].abs().max() == 0
    assert both[0].abs().max() > 0
    torch.testing.assert_close(both[0], encoder(tokens[:1, :3], mask[:1, :3])[0])


def test_word_order_matters() -> None:
    encoder = TextEncoder(TOKENS, WIDTH)
    tokens = torch.randn(1, 4, TOKENS)
    turned = encoder(tokens.flip(1), torch.ones(1, 4))
    assert not torch.allclose(encoder(tokens, torch.ones(1, 4)), turned)


def test_drawings_in_one_batch_do_not_see_each_other() -> None:
    encoder = SegmentEncoder(WIDTH)
    one, other = torch.randn(6, 32, 4), torch.randn(9, 32, 4)
    spans = torch.tensor([[0, 6], [2, 5], [5, 6]])
    alone = encoder(one, spans)
    bounds = torch.tensor([[9, 15]] * 3)
    torch.testing.assert_close(encoder(torch.cat([other, one]), spans + 9, bounds), alone)


def test_generator_step_equals_the_whole_sequence() -> None:
    preset = GeneratorPreset(width=WIDTH, hidden=20, dropout=0.5)
    model = Generator(preset, token_width=TOKENS, vocabulary=30).eval()
    context = model.describe(
        torch.randn(5, 32, 4), torch.tensor([[0, 5], [1, 2]]), torch.randn(2, TOKENS)
    )
    words = torch.randint(0, 30, (2, 6))
    whole = torch.log_softmax(model(context, words), dim=-1)
    h = context
    for at in range(6):
        log_probs, h = model.step(words[:, at], context, h)
        torch.testing.assert_close(log_probs, whole[:, at])


def test_levels_that_do_not_exist_change_nothing() -> None:
    preset = GeneratorPreset(width=WIDTH, hidden=20, dropout=0.0)
    model = Generator(preset, token_width=TOKENS, vocabulary=30).eval()
    stack, mask, subject = torch.randn(2, 4, 5, TOKENS), torch.ones(2, 4, 5), torch.randn(2, TOKENS)
    mask[0, 2:] = 0
    context = model.expand(stack, mask, subject)
    alone = model.expand(stack[:1, :2], mask[:1, :2], subject[:1])
    torch.testing.assert_close(context[:1], alone)


def test_scorer_makes_unit_vectors() -> None:
    model = Scorer(
        ScorerPreset(width=WIDTH, space=8, dropout=0.0, unity=8, layers=1), token_width=TOKENS
    )
    segments = model.segments(torch.randn(4, 32, 4), torch.tensor([[0, 4], [3, 4]]))
    texts = model.texts(torch.randn(3, 5, TOKENS), torch.ones(3, 5))
    torch.testing.assert_close(segments.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(3))
