"""Which frozen network the perceptual and Gram terms look through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.extras import require
from openwfm.tokenizer.features import EfficientNetFeatures, load_backbone

OFFLINE = "efficientnet_lite0"
LIBRARIES = ("torchvision", "timm")


def check_backbone(name: str) -> None:
    """Raises ValueError for a name that `build_backbone` does not know by its form."""
    library, _, model = name.partition(":")
    if name != OFFLINE and not (library in LIBRARIES and model):
        raise ValueError(
            f"objective.features={name}: must be {OFFLINE}, torchvision:MODEL or timm:MODEL"
        )


def build_backbone(name: str) -> nn.Module:
    """Images in [-1, 1] to a tuple of feature maps, fine to coarse; frozen, in eval mode.

    ``efficientnet_lite0`` comes with a package. ``torchvision:vgg16`` and ``timm:resnet18`` are
    any convolutional classifiers of those libraries, with the weights that they download.
    """
    check_backbone(name)
    if name == OFFLINE:
        return EfficientNetFeatures(load_backbone())
    library, _, model = name.partition(":")
    build = _from_torchvision if library == "torchvision" else _from_timm
    network, mean, std = build(model)
    return StrideFeatures(network, mean, std)


def _from_torchvision(model: str) -> tuple[nn.Module, Sequence[float], Sequence[float]]:
    models = require("torchvision.models", extra="backbones")
    weights: Any = models.get_model_weights(model).DEFAULT
    transforms = weights.transforms()
    return models.get_model(model, weights=weights), transforms.mean, transforms.std


def _from_timm(model: str) -> tuple[nn.Module, Sequence[float], Sequence[float]]:
    network = require("timm", extra="backbones").create_model(model, pretrained=True)
    return network, network.default_cfg["mean"], network.default_cfg["std"]


class StrideFeatures(nn.Module):
    """What any convolutional network holds last at each of its resolutions, finest first.

    A layer without sublayers counts as such when its output is a map ``n c h w`` of more than one
    pixel, no larger than the one before; at most the ``depths`` finest resolutions below the
    image's own are kept, or that one too if ``depths`` allows.
    """

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], depths: int = 5
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.depths = depths
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> StrideFeatures:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        found: dict[tuple[int, int], Tensor] = {}

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                rows, columns = output.shape[-2:]
                coarsest = next(reversed(found), (rows, columns))
                if rows * columns > 1 and rows <= coarsest[0] and columns <= coarsest[1]:
                    found[(rows, columns)] = output

        layers = [layer for layer in self.network.modules() if not list(layer.children())]
        handles = [layer.register_forward_hook(keep) for layer in layers]
        try:
            self.network(((images + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std"))
        finally:
            for handle in handles:
                handle.remove()
        return tuple(found.values())[: self.depths]
