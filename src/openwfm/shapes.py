"""The dimension alphabet, and time as types that do not mix.

Letters used in every jaxtyping annotation and einops pattern:

==========  =====================================================
``b``       batch
``c t h w`` channels, frames, rows, columns of pixels
``z f y x`` channels, frames, rows, columns of latents
``n d``     tokens and their width
``v``       camera views
``s a``     steps and dimensions of an action
==========  =====================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class _Time:
    """Arithmetic between two different units of time is a mistake, so it raises."""

    __slots__ = ()

    def _check(self, other: Any) -> None:
        if isinstance(other, _Time) and type(other) is not type(self):
            raise TypeError(
                f"{type(self).__name__} and {type(other).__name__} do not mix: "
                "convert with openwfm.shapes.Temporal"
            )


class _Count(_Time, int):
    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        self._check(other)
        return type(self)(int(self) + int(other))

    def __sub__(self, other: Any) -> Any:
        self._check(other)
        return type(self)(int(self) - int(other))

    __radd__ = __add__

    def __eq__(self, other: object) -> bool:
        self._check(other)
        return int(self) == other

    def __lt__(self, other: Any) -> bool:
        self._check(other)
        return int(self) < int(other)

    def __le__(self, other: Any) -> bool:
        self._check(other)
        return int(self) <= int(other)

    def __gt__(self, other: Any) -> bool:
        self._check(other)
        return int(self) > int(other)

    def __ge__(self, other: Any) -> bool:
        self._check(other)
        return int(self) >= int(other)

    def __hash__(self) -> int:
        return hash(int(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)})"

    __str__ = int.__repr__


class Frames(_Count):
    """A number of pixel frames."""


class LatentFrames(_Count):
    """A number of latent frames."""


class Seconds(_Time, float):
    """A duration in seconds."""

    def frames(self, fps: float) -> Frames:
        """Nearest whole number of frames at ``fps``."""
        if fps <= 0:
            raise ValueError(f"fps={fps}: must be positive")
        return Frames(round(float(self) * fps))


@dataclass(frozen=True, kw_only=True)
class Temporal:
    """Causal temporal compression: 1 + ratio·(f - 1) frames are f latent frames.

    The first frame is a latent frame of its own; every later latent frame stands for ``ratio``
    pixel frames (arXiv 2501.03575, section 4.1).
    """

    ratio: int = 8

    def __post_init__(self) -> None:
        if self.ratio not in (1, 2, 4, 8, 16):
            raise ValueError(f"temporal.ratio={self.ratio}: must be one of 1, 2, 4, 8, 16")

    def latent_frames(self, frames: Frames | int) -> LatentFrames:
        """Raises ValueError when ``frames`` is not 1 + ratio·n."""
        count = int(frames)
        if count < 1 or (count - 1) % self.ratio:
            lower = max(1, 1 + (count - 1) // self.ratio * self.ratio)
            raise ValueError(
                f"num_frames={count}: must be 1 + {self.ratio}·n "
                f"(nearest: {lower} or {lower + self.ratio})"
            )
        return LatentFrames(1 + (count - 1) // self.ratio)

    def frames(self, latent_frames: LatentFrames | int) -> Frames:
        count = int(latent_frames)
        if count < 1:
            raise ValueError(f"latent_frames={count}: must be at least 1")
        return Frames(1 + (count - 1) * self.ratio)
