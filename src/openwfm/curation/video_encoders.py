"""Encoders of a cluster: dual towers (CLIP, SigLIP, X-CLIP) through transformers, from a folder.

Only architectures that transformers itself defines are opened, from safetensors: code that lies
beside weights is never run. InternVideo2 and Cosmos-Embed publish such code; a class of yours that
has the interface of `openwfm.curation.features.Encoder` is named by ``_target_`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.curation.features import Encoder, unit
from openwfm.curation.look import Look, spread
from openwfm.extras import require


@dataclass(frozen=True, kw_only=True)
class DualTowerConfig:
    """``folder``: a model saved by transformers, with its processor.

    ``num_stills`` pictures of a clip are encoded and averaged (a model of videos takes them
    together, as many as it was trained with); ``device`` and ``precision`` (float32, bfloat16 or
    float16) are where and how the weights are held.
    """

    folder: str
    num_stills: int = 8
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not (Path(self.folder) / "config.json").is_file():
            raise ValueError(f"encoder.folder={self.folder}: holds no config.json of transformers")
        if self.num_stills < 1:
            raise ValueError(f"encoder.num_stills={self.num_stills}: must be at least 1")
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(
                f"encoder.precision={self.precision}: must be float32, bfloat16 or float16"
            )

    def open(self) -> Encoder:
        return DualTowerEncoder(self)


class DualTowerEncoder:
    """Clips and texts in one space, unit vectors. Raises ValueError for a model without towers."""

    has_text = True

    def __init__(self, config: DualTowerConfig) -> None:
        transformers = require("transformers", extra="curation")
        self.config = config
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self.model = transformers.AutoModel.from_pretrained(
            config.folder, use_safetensors=True, dtype=getattr(torch, config.precision), **options
        )
        if not hasattr(self.model, "get_text_features") or not (
            hasattr(self.model, "get_video_features") or hasattr(self.model, "get_image_features")
        ):
            raise ValueError(
                f"encoder.folder={config.folder}: {type(self.model).__name__} must have a picture "
                "tower and a text tower (CLIP, SigLIP, X-CLIP, …)"
            )
        self.model.eval().to(config.device)
        self.pictures = transformers.AutoImageProcessor.from_pretrained(
            config.folder, use_fast=False, **options
        )
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(config.folder, **options)
        self.name = f"{self.model.config.model_type}:{Path(config.folder).resolve().name}"
        self.width = self.embed_text(["a"]).shape[1]

    @torch.inference_mode()
    def embed(self, look: Look) -> Float[np.ndarray, " d"]:
        stills = [look.stills[at] for at in spread(len(look.stills), self.config.num_stills)]
        pixels = self.pictures(images=stills, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(self.config.device, self.model.dtype)
        if hasattr(self.model, "get_video_features"):
            rows = _features(self.model.get_video_features(pixel_values=pixels[None]))
        else:
            rows = _features(self.model.get_image_features(pixel_values=pixels))
        vectors = unit(rows.float().cpu().numpy())
        return unit(vectors.mean(axis=0)).astype(np.float32)

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """SigLIP was trained on padded texts, so padding goes to the tower's full length."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(self.config.device)
        known = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        rows = _features(self.model.get_text_features(**known))
        return unit(rows.float().cpu().numpy()).astype(np.float32)


def _features(output: Any) -> Tensor:
    """transformers 4 returns the projected features, 5 an output that carries them."""
    found = output if isinstance(output, Tensor) else output.pooler_output
    assert isinstance(found, Tensor)
    return found
