"""TransNet V2 in bfloat16 where the processor multiplies bfloat16 tiles, with the cuts of fp32.

Every window is first computed in bfloat16. Where that leaves any doubt about a cut (see
`is_doubtful`) the window is computed again in fp32, so no transition changes; probabilities of the
other windows are off by up to 0.01. Weights and activations are rounded, sums are fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from openwfm.curation.transitions import is_doubtful
from openwfm.curation.transnet import DILATIONS, MARGIN, STRIDE, TransNet, folded

# Of logits. The largest error measured is 0.10 anywhere, 0.034 within 1.0 of the threshold
# (docs/curation/shots.md); `openwfm.benchmarks.shots` measures both anew.
DOUBT = 0.12


def is_quick_here() -> bool:
    """Whether this processor has AMX tiles for bfloat16: ten times the speed of its fp32.

    Without them bfloat16 gains little (AVX-512) or loses (emulated).
    """
    return torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported()


class QuickLayer:
    """As `transnet.Layer`: ``t c h w``, channels last, so no frame sees another's rows."""

    def __init__(self, state: dict[str, Tensor], prefix: str, scale: float) -> None:
        spatial, temporal, bias = folded(state, prefix)
        self.branches = [
            (_bfloat16(near * scale), _bfloat16(far), part.bfloat16(), dilation)
            for near, far, part, dilation in zip(
                spatial, temporal, bias.chunk(4), DILATIONS, strict=True
            )
        ]

    def __call__(self, x: Float[Tensor, "t c h w"]) -> Float[Tensor, "t f h w"]:
        height = x.shape[2]
        parts = []
        for near, far, bias, dilation in self.branches:
            spread = rearrange(F.conv2d(x, near, padding=1), "t e h w -> 1 e t (h w)")
            part = F.conv2d(spread, far, bias, padding=(dilation, 0), dilation=(dilation, 1))
            parts.append(part)
        out = torch.cat(parts, dim=1).relu_()
        return rearrange(out, "1 f t (h w) -> t f h w", h=height)


def _bfloat16(weight: Tensor) -> Tensor:
    return weight.bfloat16().contiguous(memory_format=torch.channels_last)


class TwoPass:
    """Windows in bfloat16, and in fp32 by ``exact`` where that could change a cut at ``threshold``.

    ``num_windows`` and ``num_exact`` count all windows and those that were computed again.
    """

    def __init__(self, exact: TransNet, state: dict[str, Tensor], threshold: float) -> None:
        self.exact, self.threshold = exact, threshold
        self.num_windows = self.num_exact = 0
        names = [f"SDDCNN.{block}.DDCNN.{layer}" for block in range(3) for layer in range(2)]
        # Pixels stay 0..255, which bfloat16 holds exactly.
        self.layers = [
            QuickLayer(state, name, 1.0 if number else 1 / 255) for number, name in enumerate(names)
        ]

    def window(
        self, frames: UInt8[Tensor, "t h w c"], before: list[Tensor] | None
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"], list[Tensor] | None]:
        """As `TransNet.window`. ``before`` comes from a window that was computed exactly."""
        self.num_windows += 1
        single, many = self.quick(frames)
        if not is_doubtful(single.numpy(), many.numpy(), self.threshold, DOUBT):
            return single, many, None
        self.num_exact += 1
        return self.exact.window(frames, before)

    @torch.inference_mode()
    def quick(
        self, frames: UInt8[Tensor, "t h w c"]
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
        """Probabilities of the middle frames, in bfloat16 but for the last layers."""
        x = rearrange(frames, "t h w c -> t c h w").bfloat16()
        means = []
        for block in range(3):
            shortcut = self.layers[2 * block](x)
            x = F.avg_pool2d(self.layers[2 * block + 1](shortcut).add_(shortcut), 2)
            means.append(x.float().mean(dim=(2, 3)))
        flat = rearrange(x[MARGIN : MARGIN + STRIDE], "t f h w -> t (h w f)").float()
        return self.exact.head(frames, torch.cat(means, dim=1), flat)
