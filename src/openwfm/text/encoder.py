"""What a text encoder is, which ones there are, and how their output is batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float


class TextEncoder(Protocol):
    """``encode`` returns one fp16 array ``n d`` per prompt: its true tokens, without padding."""

    name: str
    width: int

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]: ...


ENCODERS = ("minilm-l6-v2",)


def text_encoder(name: str) -> TextEncoder:
    """Load an encoder by name. Raises ValueError for an unknown one."""
    if name == "minilm-l6-v2":
        from openwfm.text.minilm import MiniLMEncoder

        return MiniLMEncoder()
    raise ValueError(f"text_encoder={name}: must be one of {', '.join(ENCODERS)}")


def pad_tokens(embeddings: Sequence[np.ndarray], length: int) -> Float[np.ndarray, "b n d"]:
    """Stack token embeddings, cut to ``length`` tokens and zero beyond a prompt's own.

    Zeros are not masked in attention: they are a null sink (arXiv 2501.03575, released code).
    Raises ValueError when there are none, or when widths differ.
    """
    widths = sorted({array.shape[-1] for array in embeddings})
    if len(widths) != 1 or any(array.ndim != 2 for array in embeddings):
        raise ValueError(
            f"text embeddings: widths {widths}: must be arrays (tokens, width) of one width "
            "(of one encoder)"
        )
    padded = np.zeros((len(embeddings), length, widths[0]), dtype=embeddings[0].dtype)
    for row, array in zip(padded, embeddings, strict=True):
        count = min(length, len(array))
        row[:count] = array[:count]
    return padded
