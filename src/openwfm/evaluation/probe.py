"""A small network that reads a robot's state out of a picture, to judge what a world shows.

It is trained on pictures whose state is known (of a simulator), and on the same ones through the
tokenizer; its own error on held-out pictures is the floor of whatever it measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from openwfm.randomness import derive_seed, torch_generator
from openwfm.weights import load_strict, plain, read_fields, read_weights, save_weights

KIND = "probe"


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """``values`` are numbers (with ``mean`` and ``std``), ``flags`` are yes or no; ``asked`` names
    what a flag can be asked about, one number each (0 or 1). ``size`` is rows, columns."""

    values: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flags: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    size: tuple[int, int] = (64, 64)
    width: int = 24
    points: int = 32

    def __post_init__(self) -> None:
        for name in ("values", "mean", "std", "flags", "asked", "size"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len({len(self.values), len(self.mean), len(self.std)}) != 1 or not self.values:
            raise ValueError("probe: values, mean, std: must be of one length, 1 or more")
        if not min(self.std) > 0:
            raise ValueError(f"probe.std={self.std}: must be positive")
        if any(side % 4 or side < 8 for side in self.size):
            raise ValueError(f"probe.size={self.size}: must be multiples of 4")


@dataclass(frozen=True)
class Truths:
    """Of ``n`` pictures: values, flags (0 or 1), and what is asked."""

    values: Float[Tensor, "n k"]
    flags: Float[Tensor, "n m"]
    asked: Float[Tensor, "n c"]


class Probe(nn.Module):
    """Finds ``points`` in a picture (spatial softmax: Levine et al., arXiv 1504.00702, section 5)
    and computes all else from where they are and how clearly they are seen.

    Without the softmax, a layer over all places learned the scenes by heart: on unseen ones its
    error was twice that of training.
    """

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        width, points = config.width, config.points
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, points, 3, padding=1),
        )
        rows, columns = (torch.linspace(-1, 1, side // 4) for side in config.size)
        self.register_buffer("places", torch.cartesian_prod(rows, columns), persistent=False)
        self.places: Tensor
        self.hidden = nn.Sequential(nn.Linear(3 * points, 192), nn.GELU(), nn.Linear(192, 192))
        self.values = nn.Sequential(nn.GELU(), nn.Linear(192, len(config.values)))
        self.flags = nn.Sequential(
            nn.GELU(), nn.Linear(192 + len(config.asked), 96), nn.GELU(),
            nn.Linear(96, len(config.flags)),
        ) if config.flags else None  # fmt: skip

    def forward(
        self, frames: Float[Tensor, "n 3 h w"], asked: Float[Tensor, "n c"] | None = None
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n m"]]:
        """Values in standard deviations, and logits of flags (none without ``asked``)."""
        maps = self.convolutions(frames).flatten(2)
        weights = maps.softmax(-1)
        where, clear = (weights @ self.places).flatten(1), (weights * maps).sum(-1)
        hidden = self.hidden(torch.cat((where, 0.1 * clear), dim=1))
        if self.flags is None or asked is None:
            return self.values(hidden), hidden.new_zeros(len(frames), 0)
        return self.values(hidden), self.flags(torch.cat((hidden, asked), dim=1))

    @torch.inference_mode()
    def read(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Values in their units. Frames in [-1, 1]."""
        found = [self(part)[0] for part in frames.float().split(256)]
        return torch.cat(found) * torch.tensor(self.config.std) + torch.tensor(self.config.mean)

    def read_video(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t k"]:
        found = self.read(rearrange(video, "b c t h w -> (b t) c h w"))
        return rearrange(found, "(b t) k -> b t k", b=len(video))

    @torch.inference_mode()
    def holds(
        self, frames: Float[Tensor, "n 3 h w"], asked: Float[Tensor, "n c"]
    ) -> Float[Tensor, "n m"]:
        """Probabilities of the flags."""
        pairs = zip(frames.float().split(256), asked.split(256), strict=True)
        return torch.cat([self(*pair)[1] for pair in pairs]).sigmoid()

    def save(self, folder: Path | str) -> None:
        config = {"kind": KIND, "net": plain(asdict(self.config))}
        save_weights(folder, config, self.state_dict())

    @staticmethod
    def load(folder: Path | str) -> Probe:
        """Raises ValueError when it is no folder of a probe."""
        config, tensors = read_weights(folder, kind=KIND)
        probe = Probe(read_fields(ProbeConfig, config["net"], str(folder)))
        load_strict(probe, tensors, str(folder))
        return probe.eval().requires_grad_(False)


def train_probe(
    config: ProbeConfig,
    pictures: Sequence[UInt8[Tensor, "n h w 3"]],
    truths: Truths,
    *,
    steps: int,
    batch_size: int = 128,
    seed: int = 0,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> Probe:
    """On several versions of the same ``pictures``; half of those drawn are blurred a little.

    The learning rate falls along a cosine; the last quarter of the weights is averaged.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "probe"))
        probe = Probe(config)
    wanted = (truths.values - torch.tensor(config.mean)) / torch.tensor(config.std)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=2e-3, weight_decay=0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch_generator(seed, "probe batches")
    kept = torch.optim.swa_utils.AveragedModel(probe)
    for step in range(steps):
        rows = torch.randint(len(wanted), (batch_size,), generator=generator)
        version = torch.randint(len(pictures), (batch_size,), generator=generator)
        chosen = [pictures[v][r] for v, r in zip(version.tolist(), rows.tolist(), strict=True)]
        frames = torch.stack(chosen).permute(0, 3, 1, 2).float() / 127.5 - 1
        blurred = F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        share = torch.rand((batch_size, 1, 1, 1), generator=generator)
        frames = torch.lerp(frames, blurred, (2 * share - 1).clamp(min=0))
        frames = frames + 0.05 * torch.randn(frames.shape, generator=generator)
        values, flags = probe(frames, truths.asked[rows])
        loss = F.smooth_l1_loss(values, wanted[rows], beta=0.2)
        if config.flags:
            loss = loss + F.binary_cross_entropy_with_logits(flags, truths.flags[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step >= 0.75 * steps:
            kept.update_parameters(probe)
        told(step, float(loss.detach()))
    probe.load_state_dict(kept.module.state_dict())
    return probe.eval().requires_grad_(False)
