"""TransNet V2 in bfloat16 where the processor multiplies bfloat16 tiles, with the cuts of fp32.

Every window is first computed in bfloat16. Where that, with the windows before and after, leaves
any doubt about a cut (see `is_doubtful`) the window is computed again in fp32, so no transition
changes; probabilities of the other windows are off by up to 0.01. Weights and activations are
rounded, sums are fp32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from openwfm.curation.transitions import is_doubtful
from openwfm.curation.transnet import DILATIONS, MARGIN, STRIDE, Stem, TransNet, folded

# Of logits. The largest error measured is 0.10 anywhere, 0.034 within 1.0 of the threshold
# (docs/curation/shots.md); `openwfm.benchmarks.shots` measures both anew.
DOUBT = 0.12
Found = tuple[Float[Tensor, " s"], Float[Tensor, " s"]]


def is_quick_here() -> bool:
    """Whether this processor has AMX tiles for bfloat16: ten times the speed of its fp32.

    Without them bfloat16 gains little (AVX-512) or loses (emulated).
    """
    return torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported()


class QuickStem:
    """As `transnet.Stem`, of pixels 0..255, which bfloat16 holds exactly; channels last."""

    def __init__(self, state: dict[str, Tensor], prefix: str) -> None:
        stem = Stem(state, prefix)
        self.weight, self.bias = _bfloat16(stem.weight / 255), stem.bias.bfloat16()

    def __call__(self, x: UInt8[Tensor, "t h w c"]) -> Float[Tensor, "t f h w"]:
        around = F.pad(x.bfloat16(), (0, 0, 0, 0, 0, 0, Stem.REACH, Stem.REACH))
        parts = [around[Stem.REACH + o : Stem.REACH + o + len(x)] for o in Stem.OFFSETS]
        stacked = rearrange(torch.cat(parts, dim=3), "t h w c -> t c h w")
        return F.conv2d(stacked, self.weight, self.bias, padding=1).relu_()


class QuickLayer:
    """As `transnet.Layer`: ``t c h w``, channels last, so no frame sees another's rows."""

    def __init__(self, state: dict[str, Tensor], prefix: str) -> None:
        spatial, temporal, bias = folded(state, prefix)
        self.branches = [
            (_bfloat16(near), _bfloat16(far), part.bfloat16(), dilation)
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
        self.layers: list[QuickStem | QuickLayer] = [QuickLayer(state, name) for name in names[1:]]
        self.layers.insert(0, QuickStem(state, names[0]))

    def windows(self, frames: Iterable[UInt8[Tensor, "t h w c"]]) -> Iterator[Found]:
        """As `TransNet.windows`. A window is judged when the next one's first pass is known."""
        held: Tensor | None = None  # the window to be judged, what was found in it, and before it
        found: Found | None = None
        earlier: Found | None = None
        kept: list[Tensor] | None = None  # of the window before, if that was computed exactly
        for window in chain(frames, [None]):
            after = None if window is None else self.quick(window)
            if held is not None:
                assert found is not None
                self.num_windows += 1
                if self._is_doubtful(earlier, found, after):
                    self.num_exact += 1
                    *again, kept = self.exact.window(held, kept)
                    found = again[0], again[1]
                else:
                    kept = None
                yield found
                earlier = found
            held, found = window, after

    def _is_doubtful(self, before: Found | None, found: Found, after: Found | None) -> bool:
        known = [part for part in (before, found, after) if part is not None]
        single, many = (
            np.concatenate([p.numpy() for p in column]) for column in zip(*known, strict=True)
        )
        start = 0 if before is None else len(before[0])
        return is_doubtful(single, many, self.threshold, DOUBT, (start, start + len(found[0])))

    @torch.inference_mode()
    def quick(self, frames: UInt8[Tensor, "t h w c"]) -> Found:
        """Probabilities of the middle frames, in bfloat16 but for the last layers."""
        x, means = frames, []
        for block in range(3):
            shortcut = self.layers[2 * block](x)
            x = F.avg_pool2d(self.layers[2 * block + 1](shortcut).add_(shortcut), 2)
            means.append(x.float().mean(dim=(2, 3)))
        flat = rearrange(x[MARGIN : MARGIN + STRIDE], "t f h w -> t (h w f)").float()
        return self.exact.head(frames, torch.cat(means, dim=1), flat)
