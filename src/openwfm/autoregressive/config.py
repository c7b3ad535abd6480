"""What an autoregressive world model is made of (arXiv 2501.03575, section 5.2, and its code)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from openwfm.nn.rope import axis_dims


@dataclass(frozen=True, kw_only=True)
class YarnConfig:
    """YaRN as the release has it: on all three axes, without the magnitude factor.

    An axis was trained with ``original`` positions; a frequency that turns more than ``beta_fast``
    times over them stays, one below ``beta_slow`` turns is divided by ``scale``.
    """

    scale: float = 2.0
    beta_fast: float = 4.0
    beta_slow: float = 1.0
    original: tuple[int, int, int] = (3, 40, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "original", tuple(self.original))
        if not self.scale >= 1:
            raise ValueError(f"net.yarn.scale={self.scale}: must be at least 1")
        if not 0 < self.beta_slow < self.beta_fast:
            raise ValueError(
                f"net.yarn.beta_slow={self.beta_slow}: must be above 0 and below "
                f"net.yarn.beta_fast={self.beta_fast}"
            )
        if len(self.original) != 3 or min(self.original) < 1:
            raise ValueError(f"net.yarn.original={self.original}: must be three sizes (t, h, w)")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The network. ``grid`` is the largest clip in latent frames, rows and columns: tokens come
    frame by frame, row by row, and the last two sizes are fixed.

    ``vocabulary`` tokens can be predicted; ``embeddings`` rows can be given, more than those where
    there are special tokens (None: as many). With ``bov`` every sequence begins with the token
    ``vocabulary`` ("begin of video"), at no position. ``context_width`` None means no
    cross-attention. ``absolute_position`` adds sines and cosines before every layer.
    ``tied`` (ours) shares the embedding with the output.
    """

    width: int = 4096
    num_layers: int = 16
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    hidden: int = 14336
    vocabulary: int = 64000
    embeddings: int | None = None
    grid: tuple[int, int, int] = (5, 40, 64)
    bov: bool = False
    context_width: int | None = None
    absolute_position: bool = False
    yarn: YarnConfig | None = None
    rope_theta: float = 500_000.0
    norm_epsilon: float = 1e-5
    tied: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if len(self.grid) != 3 or min(self.grid) < 1:
            raise ValueError(f"net.grid={self.grid}: must be three sizes (frames, rows, columns)")
        names = ("width", "num_layers", "num_heads", "num_kv_heads", "head_dim", "hidden")
        for name in (*names, "vocabulary"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"net.{name}={value!r}: must be a positive integer")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"net.num_heads={self.num_heads}: must be a multiple of "
                f"net.num_kv_heads={self.num_kv_heads}"
            )
        axis_dims(self.head_dim)
        least = self.vocabulary + int(self.bov)
        if self.embeddings is not None and self.embeddings < least:
            raise ValueError(
                f"net.embeddings={self.embeddings}: must be at least {least}, the vocabulary"
                + (" and the begin of video" if self.bov else "")
            )
        if self.tied and self.num_embeddings != self.vocabulary:
            raise ValueError(
                f"net.tied={self.tied}: must be false when net.embeddings={self.num_embeddings} "
                f"differs from net.vocabulary={self.vocabulary}"
            )
        if self.context_width is not None and self.context_width < 1:
            raise ValueError(f"net.context_width={self.context_width}: must be positive or null")
        for name in ("rope_theta", "norm_epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"net.{name}={getattr(self, name)}: must be positive")

    @property
    def num_embeddings(self) -> int:
        return self.vocabulary + int(self.bov) if self.embeddings is None else self.embeddings

    @property
    def frame_tokens(self) -> int:
        """Tokens of a latent frame."""
        return self.grid[1] * self.grid[2]

    @property
    def max_tokens(self) -> int:
        """Of the longest sequence, its begin included."""
        return math.prod(self.grid) + int(self.bov)
