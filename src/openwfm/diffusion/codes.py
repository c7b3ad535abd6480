"""Tokens of a discrete tokenizer as channels: the condition of the diffusion decoder.

The decoder paints, in the latents of a continuous tokenizer, what the tokens of an autoregressive
world say (arXiv 2501.03575, section 5.2.4). Both tokenizers compress time alike.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


class CodeChannels(nn.Module):
    """An embedding of each token, every frame resized bilinearly to the latents' size."""

    def __init__(self, codebook: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook, width)

    def forward(
        self, codes: Int[Tensor, "b f r c"], size: tuple[int, int, int]
    ) -> Float[Tensor, "b k f y x"]:
        """``size`` is latent frames, rows, columns. Raises ValueError for codes that are no whole
        numbers of the codebook, or of another number of frames.
        """
        codebook, (f, y, x) = self.embedding.num_embeddings, size
        if codes.ndim != 4 or codes.shape[1] != f or codes.is_floating_point():
            raise ValueError(
                f"codes: {codes.dtype} {tuple(codes.shape)}: must be whole numbers "
                f"(batch, {f} latent frames, rows, columns)"
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook:
            raise ValueError(
                f"codes: {int(codes.min())} to {int(codes.max())}: must be in "
                f"[0, net.codebook={codebook})"
            )
        frames = rearrange(self.embedding(codes), "b f r c k -> (b f) k r c")
        frames = F.interpolate(frames, size=(y, x), mode="bilinear", antialias=True)
        return rearrange(frames, "(b f) k y x -> b k f y x", f=f)
