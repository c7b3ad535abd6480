"""Feature backbones of distances between videos; each says what its numbers may be called.

Published rFID and rFVD are those of Inception-v3 and I3D and of nothing else. What works without a
download is labelled with its own backbone's name, and compares only with itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openwfm.extras import require
from openwfm.tokenizer.features import EfficientNetFeatures, load_backbone

MIN_SIDE = 32


class ImageBackbone(Protocol):
    """``label`` names the Fréchet distance of its features."""

    label: str

    def images(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]: ...


class ClipBackbone(Protocol):
    label: str

    def clips(self, videos: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]: ...


class EfficientNetLite0:
    """EfficientNet-Lite0 at strides 8 and 16, pooled; works offline. Not FID, not FVD.

    A clip's features are the mean over frames, and the mean absolute change from frame to frame.
    """

    label = "Fréchet, EfficientNet-Lite0"

    def __init__(self) -> None:
        self.network = EfficientNetFeatures(load_backbone())

    @torch.no_grad()
    def maps(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        """Feature maps at strides 2 to 16; sides are enlarged to multiples of 16."""
        height, width = (max(MIN_SIDE, -(-side // 16) * 16) for side in images.shape[2:])
        if (height, width) != tuple(images.shape[2:]):
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        return self.network(images)

    def images(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return torch.cat([x.mean((2, 3)) for x in self.maps(images)[2:]], dim=1)

    def clips(self, videos: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        frames = self.images(rearrange(videos, "b c t h w -> (b t) c h w"))
        frames = rearrange(frames, "(b t) d -> b t d", b=len(videos))
        if frames.shape[1] < 2:
            return frames[:, 0]
        change = (frames[:, 1:] - frames[:, :-1]).abs().mean(1)
        return torch.cat((frames.mean(1), change), dim=1)

    def distance(
        self, videos: Float[Tensor, "b 3 t h w"], targets: Float[Tensor, "b 3 t h w"]
    ) -> Float[Tensor, " b"]:
        """LPIPS-style: of unit-length features at four depths, averaged over positions and frames.

        All channel weights are 1 and the backbone is not VGG: it does not compare with LPIPS.
        """
        made, real = (
            self.maps(rearrange(x, "b c t h w -> (b t) c h w")) for x in (videos, targets)
        )
        total = torch.zeros(len(videos) * videos.shape[2])
        for ours, theirs in zip(made, real, strict=True):
            gap = F.normalize(ours, dim=1) - F.normalize(theirs, dim=1)
            total += gap.square().sum(1).mean((1, 2))
        return rearrange(total, "(b t) -> b t", b=len(videos)).mean(1)


class InceptionV3:
    """FID's own features (2048 of pool 3), from ``weights``, the file that torch-fidelity names."""

    label = "rFID"

    def __init__(self, *, weights: str) -> None:
        if not Path(weights).is_file():
            raise ValueError(
                f"benchmark.images.weights={weights}: no such file; it is torch-fidelity's "
                "pt_inception-2015-12-05-6726825d.pth"
            )
        fidelity: Any = require("torch_fidelity", extra="fid")
        self.network = fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights
        ).eval()

    @torch.no_grad()
    def images(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        pixels = images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        features: Tensor = self.network(pixels)[0]
        return features


class TransformersVideo:
    """Mean last hidden state of a video model that transformers loads from a local ``folder``.

    Made for VideoMAE, whose features follow motion better than I3D's (arXiv 2410.05203).
    """

    def __init__(self, *, folder: str, num_frames: int = 16, size: int = 224) -> None:
        if not Path(folder, "config.json").is_file():
            raise ValueError(f"benchmark.clips.folder={folder}: must be a saved model's folder")
        transformers: Any = require("transformers", extra="curation")
        self.network = transformers.AutoModel.from_pretrained(folder, use_safetensors=True).eval()
        self.label = f"Fréchet, {type(self.network).__name__.removesuffix('Model')}"
        self.num_frames, self.size = num_frames, size

    @torch.no_grad()
    def clips(self, videos: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        """Frames are spread evenly, pixels normalised with ImageNet's mean and deviation."""
        at = torch.linspace(0, videos.shape[2] - 1, self.num_frames).round().long()
        frames = rearrange(videos[:, :, at], "b c t h w -> (b t) c h w")
        frames = F.interpolate(frames, (self.size, self.size), mode="bilinear", antialias=True)
        mean = frames.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        deviation = frames.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        pixels = (frames.add(1).div(2) - mean) / deviation
        pixels = rearrange(pixels, "(b t) c h w -> b t c h w", b=len(videos))
        hidden: Tensor = self.network(pixel_values=pixels).last_hidden_state
        return hidden.mean(1)
