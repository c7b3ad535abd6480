"""The tokenizer that a world model is trained on: loaded once, never trained, never saved."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from openwfm.files import sha256_file
from openwfm.tokenizer.autoencoder import VideoTokenizer, load_tokenizer
from openwfm.weights import TENSORS


class FrozenTokenizer:
    """A published ``folder``; no submodule of who holds it, so not in checkpoints, not averaged."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @cached_property
    def module(self) -> VideoTokenizer:
        return load_tokenizer(self.folder).requires_grad_(False).eval()

    def on(self, device: torch.device) -> VideoTokenizer:
        return self.module.to(device)

    @property
    def sha256(self) -> str:
        """What caches of latents, and the meaning of tokens, are bound to."""
        return sha256_file(Path(self.folder) / TENSORS)
