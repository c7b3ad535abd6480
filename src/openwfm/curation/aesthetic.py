"""Heads that say how good a picture looks. None by default: no weights come with this package.

A head is a network that somebody trained on people's votes; it is loaded from files that the user
has, never downloaded, never replaced by a substitute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from openwfm.curation.look import spread
from openwfm.extras import require
from openwfm.weights import read_tensors

CLIP_MLP, SCORER = "clip_mlp", "scorer"
REDUCTIONS = ("min", "mean")
WIDTHS = (1024, 128, 64, 16, 1)
DROPOUTS = (0.2, 0.2, 0.1)


@dataclass(frozen=True, kw_only=True)
class AestheticConfig:
    """``kind``: ``clip_mlp`` or ``scorer``.

    ``clip_mlp``: ``model`` is a CLIP folder (transformers layout, safetensors; ViT-L/14 for the
    published head), ``head`` the MLP's safetensors file with the key names of LAION's
    *improved-aesthetic-predictor*; scores are about 1 to 10. ``scorer``: ``model`` is any
    image-classification folder of transformers with a single output, which is the score (a
    technical scorer in the manner of DOVER, exported per frame); ``head`` is empty.
    ``reduce``: a clip's score is the ``min`` or the ``mean`` of its stills, at most ``max_stills``
    of them, evenly spread, in batches of ``batch_size``.
    """

    kind: str = CLIP_MLP
    model: str
    head: str = ""
    reduce: str = "min"
    max_stills: int = 8
    batch_size: int = 8

    def __post_init__(self) -> None:
        rules = (
            ("kind", self.kind in (CLIP_MLP, SCORER), f"{CLIP_MLP} or {SCORER}"),
            ("reduce", self.reduce in REDUCTIONS, "min or mean"),
            ("max_stills", self.max_stills >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("model", Path(self.model).is_dir(), "a folder of a transformers model"),
            (
                "head",
                Path(self.head).is_file() if self.kind == CLIP_MLP else not self.head,
                f"a safetensors file for {CLIP_MLP}, empty for {SCORER}",
            ),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"aesthetic.{name}={getattr(self, name)!r}: must be {rule}")


class AestheticHead(Protocol):
    """``name`` says which weights spoke. A higher score is better."""

    @property
    def name(self) -> str: ...

    def __call__(self, stills: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " m"]:
        """The scores of the stills, or of some that are evenly spread among them."""
        ...

    def reduce(self, scores: Float[np.ndarray, " m"]) -> float: ...


class AestheticMLP(nn.Module):
    """LAION's head: five linear layers without activations between them (that is how it was
    trained), on a CLIP image embedding of unit length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, out in enumerate(WIDTHS):
            layers.append(nn.Linear(width, out))
            if index < len(DROPOUTS):
                layers.append(nn.Dropout(DROPOUTS[index]))
            width = out
        self.layers = nn.Sequential(*layers)

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return self.layers(embedding).squeeze(-1)


def load_mlp(file: Path | str, width: int) -> AestheticMLP:
    """Strict: raises ValueError naming the file and the first keys that do not fit."""
    tensors, module = read_tensors(file), AestheticMLP(width)
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != found:
        wrong = sorted(
            f"{name}: {found.get(name, 'missing')}, not {wanted.get(name, 'expected')}"
            for name in wanted.keys() | found.keys()
            if wanted.get(name) != found.get(name)
        )
        raise ValueError(f"{file}: not an aesthetic head of width {width}: {'; '.join(wrong[:4])}")
    module.load_state_dict(tensors)
    return module.float().eval()


class TransformersHead:
    """Both kinds: the model's own preprocessing, one thread, fp32."""

    def __init__(self, config: AestheticConfig) -> None:
        transformers = require("transformers", extra="curation")
        transformers.utils.logging.disable_progress_bar()
        local = {"local_files_only": True, "trust_remote_code": False}
        weights = {"use_safetensors": True, "dtype": torch.float32, **local}
        self.config = config
        self.name = f"{config.kind}:{Path(config.model).name}"
        self.processor: Any = transformers.AutoImageProcessor.from_pretrained(config.model, **local)
        self.mlp: AestheticMLP | None = None
        if config.kind == CLIP_MLP:
            kind: Any = transformers.CLIPVisionModelWithProjection
            self.model: Any = kind.from_pretrained(config.model, **weights).eval()
            self.mlp = load_mlp(config.head, self.model.config.projection_dim)
            self.name += f"+{Path(config.head).stem}"
            return
        kind = transformers.AutoModelForImageClassification
        self.model = kind.from_pretrained(config.model, **weights).eval()
        if self.model.config.num_labels != 1:
            raise ValueError(
                f"aesthetic.model={config.model}: has {self.model.config.num_labels} outputs; "
                "must have 1, the score"
            )

    @torch.inference_mode()
    def __call__(self, stills: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " m"]:
        count, size = min(len(stills), self.config.max_stills), self.config.batch_size
        chosen = stills[spread(len(stills), count)]
        scores = [self._score(chosen[at : at + size]) for at in range(0, count, size)]
        return torch.cat(scores).double().numpy()

    def _score(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, " n"]:
        inputs = self.processor(images=list(pictures), return_tensors="pt")
        output = self.model(**inputs)
        if self.mlp is None:
            return output.logits[:, 0]
        embedding = output.image_embeds
        return self.mlp(embedding / embedding.norm(dim=-1, keepdim=True))

    def reduce(self, scores: Float[np.ndarray, " m"]) -> float:
        return float(scores.min() if self.config.reduce == "min" else scores.mean())


def load_head(config: AestheticConfig) -> AestheticHead:
    """Reads the weights. Raises ValueError when they are not what the config says."""
    return TransformersHead(config)
