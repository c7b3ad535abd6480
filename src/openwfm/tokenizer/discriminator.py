"""A spatio-temporal patch discriminator: which places of a clip look real?"""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

NORMALIZATIONS = ("spectral", "none")
LOSSES = ("hinge", "relativistic")


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The discriminator, its optimiser (Adam) and its say in the tokenizer's gradient.

    The network: ``num_levels`` levels, the first of ``channels`` channels, doubling; each halves
    rows and columns, the first ``num_temporal`` of them frames too. ``normalization`` is spectral
    or none; ``r1`` is the weight of the gradient penalty on real clips (arXiv 1801.04406), ``r2``
    on made ones, taken every ``r1_every`` steps, as many times heavier. ``loss`` is the hinge loss,
    or the relativistic one of a reconstruction and its original as a pair.

    It learns from ``start_step`` on, and the tokenizer from it after ``warmup_steps`` more.
    ``weight`` is the norm of the adversarial gradient at the decoder's last layer, as a share of
    the norm of all other terms there (arXiv 2012.09841, equation 7); the factor that makes it so is
    at most ``max_factor``. ``gradient_clip`` bounds both networks' gradients in norm, in place of
    the trainer's own clipping.
    """

    channels: int = 32
    num_levels: int = 3
    num_temporal: int = 2
    normalization: str = "spectral"
    loss: str = "hinge"
    r1: float = 0.0
    r2: float = 0.0
    r1_every: int = 16
    weight: float = 0.1
    max_factor: float = 100.0
    start_step: int = 0
    warmup_steps: int = 100
    lr: float = 2.0e-4
    betas: tuple[float, float] = (0.5, 0.9)
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("channels", "num_levels", "r1_every"):
            self._at_least(name, 1)
        for name in ("num_temporal", "r1", "r2", "weight", "start_step", "warmup_steps"):
            self._at_least(name, 0)
        for name in ("max_factor", "lr", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"discriminator.{name}={getattr(self, name)}: must be positive")
        if self.num_temporal > self.num_levels:
            raise ValueError(
                f"discriminator.num_temporal={self.num_temporal}: must be at most "
                f"num_levels={self.num_levels}"
            )
        for name, known in (("normalization", NORMALIZATIONS), ("loss", LOSSES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"discriminator.{name}={value}: must be one of {', '.join(known)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"discriminator.betas={self.betas}: must be two numbers in [0, 1)")

    def _at_least(self, name: str, least: int) -> None:
        if not getattr(self, name) >= least:
            raise ValueError(
                f"discriminator.{name}={getattr(self, name)}: must be at least {least}"
            )


class Discriminator(nn.Module):
    """Clips of any length, images as clips of one frame, to a logit a patch; high means real.

    Beyond its ends a clip stands still, so an image is judged as a clip that stands still is.
    """

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.smallest = 2**config.num_levels
        levels, width = [], 3
        for i in range(config.num_levels):
            levels.append(
                _Level(width, config.channels * 2**i, time_stride=1 + (i < config.num_temporal))
            )
            width = config.channels * 2**i
        self.levels = nn.ModuleList(levels)
        self.head = nn.Conv2d(width, 1, 3, padding=1)
        for layer in list(self.modules()):
            if isinstance(layer, nn.Conv2d) and config.normalization == "spectral":
                spectral_norm(layer)

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b u y x"]:
        """Raises ValueError for sides below 2^num_levels."""
        if min(video.shape[-2:]) < self.smallest:
            raise ValueError(
                f"discriminator.num_levels: sides {video.shape[-2]}x{video.shape[-1]} must be at "
                f"least {self.smallest}"
            )
        x = video
        for level in self.levels:
            x = level(x)
        logits = self.head(rearrange(x, "b c t h w -> (b t) c h w"))
        return rearrange(logits, "(b t) 1 h w -> b t h w", b=len(video))


class _Level(nn.Module):
    """4×4 with stride 2 in each frame, then 3 frames, leaky after both."""

    def __init__(self, in_channels: int, out_channels: int, time_stride: int) -> None:
        super().__init__()
        self.space = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.time = nn.Conv2d(out_channels, out_channels, (3, 1), stride=(time_stride, 1))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d u y x"]:
        batch = len(x)
        frames = F.leaky_relu(self.space(rearrange(x, "b c t h w -> (b t) c h w")), 0.2)
        height = frames.shape[2]
        columns = rearrange(frames, "(b t) c h w -> b c t (h w)", b=batch)
        padded = F.pad(columns, (0, 0, 1, 1), mode="replicate")
        joined = F.leaky_relu(self.time(padded), 0.2)
        return rearrange(joined, "b c t (h w) -> b c t h w", h=height)
