"""Every frame as a picture of its own, for worlds that go on a frame at a time.

A causal tokenizer packs 8 frames into a later latent frame; a world that answers each action with
a frame needs one latent frame a frame (arXiv 2501.03575 code: chunks of a single frame).
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openwfm.tokenizer import VideoTokenizer


def encode_frames(
    tokenizer: VideoTokenizer, video: Float[Tensor, "b c t h w"]
) -> Float[Tensor, "b z t y x"]:
    pictures = rearrange(video, "b c t h w -> (b t) c 1 h w")
    return rearrange(tokenizer.encode(pictures), "(b t) z 1 y x -> b z t y x", b=len(video))


def decode_frames(
    tokenizer: VideoTokenizer, latents: Float[Tensor, "b z t y x"]
) -> Float[Tensor, "b c t h w"]:
    pictures = rearrange(latents, "b z t y x -> (b t) z 1 y x")
    return rearrange(tokenizer.decode(pictures), "(b t) c 1 h w -> b c t h w", b=len(latents))
