"""Latents of several lists of windows as one list: buckets one after the other, then images."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.latents import Latents
from openwfm.data.running import RunningStatistics


class JoinedLatents:
    """Rows of ``clips`` in their order, then those of ``images`` (`openwfm.data.latents.Latents`).

    Statistics are of the clips: a causal tokenizer sees an image and the first frame of a clip
    alike, so images share those of the first latent frame.
    """

    def __init__(self, clips: Sequence[Latents], images: Sequence[Latents]) -> None:
        self.clips, self.parts = tuple(clips), (*clips, *images)
        self._ends = list(accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, row: int) -> Tensor:
        part = bisect_right(self._ends, row)
        before = self._ends[part - 1] if part else 0
        return self.parts[part].read(row - before)

    def statistics(self) -> tuple[Float[Tensor, "z f"], Float[Tensor, "z f"]]:
        """Mean and standard deviation per channel and latent frame, of clips of all sizes."""
        running = RunningStatistics()
        for part in self.clips:
            for start in range(0, len(part), 256):
                rows = range(start, min(start + 256, len(part)))
                running.update(torch.stack([part.read(row) for row in rows]))
        moments = running.per_frame()
        return moments.mean.float(), moments.std.float()
