"""Text encoders: a prompt becomes a sequence of token embeddings."""

from __future__ import annotations

from openwfm.text.encoder import TextEncoder, pad_tokens, text_encoder

__all__ = ["TextEncoder", "pad_tokens", "text_encoder"]
