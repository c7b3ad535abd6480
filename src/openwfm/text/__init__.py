"""Text encoders: a prompt becomes a sequence of token embeddings."""

from __future__ import annotations

from openwfm.text.encoder import TextEncoder, embed_prompts, pad_tokens, text_encoder

__all__ = ["TextEncoder", "embed_prompts", "pad_tokens", "text_encoder"]
