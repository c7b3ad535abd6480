"""What a text encoder is, which ones there are, and how their output is batched."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class TextEncoder(Protocol):
    """``encode`` returns one fp16 array ``n d`` per prompt: its true tokens, without padding."""

    name: str
    width: int

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]: ...


ENCODERS = ("minilm-l6-v2", "t5-11b")


def text_encoder(name: str, source: Path | None = None) -> TextEncoder:
    """Load an encoder by name. Raises ValueError for an unknown one.

    ``source`` is a folder with T5's weights (`openwfm.text.t5`); None: where they are otherwise.
    """
    if name == "minilm-l6-v2":
        from openwfm.text.minilm import MiniLMEncoder

        return MiniLMEncoder()
    if name == "t5-11b":
        from openwfm.text.t5 import T5Encoder

        return T5Encoder(source)
    raise ValueError(f"text_encoder={name}: must be one of {', '.join(ENCODERS)}")


def embed_prompts(
    encoder: Callable[[], TextEncoder], prompts: Sequence[str], width: int, length: int
) -> Float[Tensor, "b n d"] | None:
    """Token embeddings of prompts, fp32, zero beyond each one's own; None when all are empty.

    ``encoder`` is called when there is something to embed. Warns when a prompt has more than
    ``length`` tokens.
    """
    if not any(prompt.strip() for prompt in prompts):
        return None
    nothing = np.zeros((0, width), np.float16)
    embeddings = [encoder().encode([p])[0] if p.strip() else nothing for p in prompts]
    longest = max(map(len, embeddings))
    if longest > length:
        warnings.warn(
            f"prompt: {longest} tokens; this world reads the first {length}", stacklevel=3
        )
    return torch.from_numpy(pad_tokens(embeddings, length)).float()


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
