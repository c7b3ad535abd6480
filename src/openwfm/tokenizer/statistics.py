"""Statistics of a tokenizer's latents, kept with its weights: ``latents.safetensors``.

The file lies beside ``model.safetensors`` and names it by its checksum, so that statistics are
never taken for those of other weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from openwfm.data.running import RunningStatistics
from openwfm.files import sha256_file, write_bytes
from openwfm.weights import STATISTICS, TENSORS, read_pickled


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentStatistics:
    """Mean and standard deviation of raw latents, per channel and per latent frame, fp32.

    ``count`` is the number of values behind each latent frame of ``frame_mean``; 0 where that is
    unknown. ``facts`` say what they were measured on. Raises ValueError for values that are not
    finite, deviations that are not positive and shapes that do not belong together.
    """

    mean: Float[Tensor, " z"]
    std: Float[Tensor, " z"]
    frame_mean: Float[Tensor, "z f"]
    frame_std: Float[Tensor, "z f"]
    count: Int[Tensor, " f"]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        z, f = self.frame_mean.shape if self.frame_mean.ndim == 2 else (-1, -1)
        shapes = {"mean": (z,), "std": (z,), "frame_std": (z, f), "count": (f,)}
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(
                    f"latent statistics: {name} {tuple(getattr(self, name).shape)}: must be "
                    f"{shape} beside frame_mean {tuple(self.frame_mean.shape)}"
                )
        for name in ("mean", "std", "frame_mean", "frame_std"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"latent statistics: {name}: must be finite")
        for name in ("std", "frame_std"):
            if not bool((getattr(self, name) > 0).all()):
                raise ValueError(f"latent statistics: {name}: must be positive")

    @classmethod
    def of(cls, running: RunningStatistics, facts: Mapping[str, Any]) -> LatentStatistics:
        frames, channels = running.per_frame(), running.per_channel()
        return cls(
            mean=channels.mean.float(),
            std=channels.std.float(),
            frame_mean=frames.mean.float(),
            frame_std=frames.std.float(),
            count=frames.count[0],
            facts=dict(facts),
        )

    @classmethod
    def of_frames(
        cls,
        mean: Float[Tensor, "z f"],
        std: Float[Tensor, "z f"],
        facts: Mapping[str, Any],
    ) -> LatentStatistics:
        """From per-frame values alone; every latent frame counts the same for the channels."""
        mean, std = mean.double(), std.double()
        channel = mean.mean(1)
        variance = (std.square() + (mean - channel[:, None]).square()).mean(1)
        return cls(
            mean=channel.float(),
            std=variance.sqrt().float(),
            frame_mean=mean.float(),
            frame_std=std.float(),
            count=torch.zeros(mean.shape[1], dtype=torch.int64),
            facts=dict(facts),
        )


def write_statistics(folder: Path | str, statistics: LatentStatistics) -> None:
    """Put them beside the weights in ``folder``; equal statistics are equal files."""
    folder = Path(folder)
    tensors = {
        name: getattr(statistics, name).contiguous()
        for name in ("mean", "std", "frame_mean", "frame_std", "count")
    }
    facts = {**statistics.facts, "tokenizer": sha256_file(folder / TENSORS)}
    metadata = {"openwfm": json.dumps(facts, sort_keys=True)}
    write_bytes(folder / STATISTICS, save(tensors, metadata=metadata))


def read_statistics(folder: Path | str) -> LatentStatistics | None:
    """Those of a published folder; None when it has none.

    Raises ValueError naming the file when it is damaged or of other weights.
    """
    folder = Path(folder)
    file = folder / STATISTICS
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            facts = json.loads((opened.metadata() or {})["openwfm"])
        ours = sha256_file(folder / TENSORS)
        if facts["tokenizer"] != ours:
            raise ValueError(
                f"of weights {facts['tokenizer'][:12]}, but {TENSORS} is {ours[:12]}; "
                "measure them again with: openwfm tokenize statistics"
            )
        return LatentStatistics(**tensors, facts=facts)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def read_release_statistics(path: Path | str, *, channels: int = 16) -> LatentStatistics:
    """``mean_std.pt`` of the release: (mean, std), each channels·frames values, channel-major.

    ``image_mean_std.pt``, one value a channel, is read too. Raises ValueError naming the file.
    """
    loaded = read_pickled(path)
    pair = isinstance(loaded, tuple | list) and len(loaded) == 2
    if not pair or not all(isinstance(part, Tensor) for part in loaded):
        raise ValueError(f"{path}: must be the two tensors (mean, std)")
    mean, std = (part.float().flatten() for part in loaded)
    if len(mean) != len(std) or not len(mean) or len(mean) % channels:
        raise ValueError(
            f"{path}: {len(mean)} and {len(std)} values: must be the same multiple of "
            f"channels={channels}"
        )
    shape = (channels, len(mean) // channels)
    try:
        return LatentStatistics.of_frames(mean.view(shape), std.view(shape), {"source": str(path)})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
