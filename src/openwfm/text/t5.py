"""T5 (google-t5/t5-11b, encoder only), the text encoder of the published diffusion weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from openwfm.extras import require

HUB_NAME = "google-t5/t5-11b"
FOLDER = "OPENWFM_T5_11B"  # environment variable: where the weights are, if not in the hub's cache
MAX_TOKENS = 512


class T5Encoder:
    """Last hidden states of a prompt's own tokens, at most 512 with the end token.

    Beyond them a batch holds zeros, which attention does not mask (`pad_tokens`; arXiv 2501.03575,
    section 5.1.2). ``source`` is a folder with model and tokenizer, a diffusers pipeline (which has
    them in ``text_encoder`` and ``tokenizer``), or a name in the hub; None: what the environment
    variable OPENWFM_T5_11B names, else the hub's. Weights are safetensors, read in fp32.
    """

    name = "t5-11b"

    def __init__(
        self, source: Path | str | None = None, *, device: torch.device | str = "cpu"
    ) -> None:
        transformers = require("transformers", extra="curation")
        transformers.utils.logging.disable_progress_bar()
        model = tokenizer = str(source or os.environ.get(FOLDER) or HUB_NAME)
        if (Path(model) / "text_encoder").is_dir():
            model, tokenizer = str(Path(model) / "text_encoder"), str(Path(model) / "tokenizer")
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer)
            self.model = transformers.T5EncoderModel.from_pretrained(
                model, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else "unreadable"
            raise ValueError(
                f"text_encoder={self.name}: no weights in {model} ({first}); set {FOLDER} to a "
                "folder with a T5 encoder as safetensors and its tokenizer"
            ) from error
        self.model = self.model.to(device).eval().requires_grad_(False)
        self.width = int(self.model.config.d_model)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One fp16 array (tokens, width) per prompt. Raises ValueError where fp16 overflows."""
        if not texts:
            return []
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.model.device)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = []
        for states, length in zip(hidden, mask.sum(dim=1).tolist(), strict=True):
            array: np.ndarray = states[:length].to(torch.float16).cpu().numpy()
            if not np.isfinite(array).all():
                raise ValueError(f"text_encoder={self.name}: an embedding is not finite in fp16")
            found.append(array)
        return found
