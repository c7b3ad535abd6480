"""Text encoders: MiniLM against a sentence whose neighbours are known, and the padding rule."""

from __future__ import annotations

import numpy as np
import pytest

from openwfm.text import pad_tokens, text_encoder


@pytest.fixture(scope="module")
def encoder():
    return text_encoder("minilm-l6-v2")


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="text_encoder=t6: must be one of minilm-l6-v2, t5-11b"):
        text_encoder("t6")


def test_pad_tokens() -> None:
    long, short = np.ones((5, 3), np.float16), 2 * np.ones((2, 3), np.float16)
    padded = pad_tokens([long, short], 4)
    assert padded.shape == (2, 4, 3) and padded.dtype == np.float16
    assert (padded[0] == 1).all() and (padded[1, :2] == 2).all() and not padded[1, 2:].any()


@pytest.mark.parametrize("arrays", [[], [np.zeros((2, 3)), np.zeros((2, 4))], [np.zeros(3)]])
def test_pad_tokens_rejects(arrays) -> None:
    with pytest.raises(ValueError, match="text embeddings: widths"):
        pad_tokens(arrays, 4)


def test_shapes_and_lengths(encoder) -> None:
    texts = ["", "a red ball", "ball " * 200]
    found = encoder.encode(texts)
    assert [array.shape for array in found] == [(2, 384), (5, 384), (64, 384)]
    assert all(array.dtype == np.float16 and np.isfinite(array).all() for array in found)
    assert encoder.encode([]) == []


def test_padding_does_not_leak_into_a_prompt(encoder) -> None:
    alone = encoder.encode(["a red ball rolls"])[0].astype(np.float32)
    beside = encoder.encode(["a red ball rolls", "word " * 50])[0].astype(np.float32)
    np.testing.assert_allclose(alone, beside, atol=4e-3)


def test_meaning_is_nearer_than_words(encoder) -> None:
    """Mean of tokens, as the model was trained: a paraphrase is nearer than a shared word."""
    texts = (
        "A child is playing football.",
        "A kid kicks a soccer ball.",
        "A child is filling in a tax form.",
    )
    means = [tokens.astype(np.float32).mean(axis=0) for tokens in encoder.encode(texts)]
    first, near, far = (mean / np.linalg.norm(mean) for mean in means)
    assert first @ near > first @ far + 0.1
