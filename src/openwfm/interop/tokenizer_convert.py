"""``openwfm convert tokenizer``: a tokenizer's files of any kind to ours and to those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from openwfm.files import read_json, write_bytes
from openwfm.interop.diffusers_folder import (
    is_diffusers_tokenizer,
    read_diffusers_tokenizer,
    write_diffusers_tokenizer,
)
from openwfm.interop.release_files import read_release, release_tensors
from openwfm.interop.tokenizer import load_nvidia_tokenizer
from openwfm.tokenizer.autoencoder import VideoTokenizer, load_tokenizer
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.presets import PRESETS
from openwfm.tokenizer.statistics import (
    LatentStatistics,
    read_release_statistics,
    read_statistics,
    write_statistics,
)
from openwfm.weights import CONFIG, STATISTICS, TENSORS, plain, save_weights

FORMATS = ("openwfm", "diffusers", "release")
RUN_WEIGHTS = "weights"  # in a run folder
RELEASE_STATISTICS = "mean_std.pt"


@dataclass(frozen=True, kw_only=True)
class ConvertTokenizerConfig:
    """A tokenizer's files into another form.

    ``average`` chooses the moving average of a training checkpoint: null where there is one, true
    or false always. The last four are what some files of the release do not tell; null reads them
    from the file.
    """

    source: str
    out: str
    format: str = "openwfm"
    average: bool | None = None
    fsq_levels: tuple[int, ...] | None = None
    spatial_compression: int | None = None
    temporal_compression: int | None = None
    num_groups: int | None = None

    def __post_init__(self) -> None:
        if self.fsq_levels is not None:
            object.__setattr__(self, "fsq_levels", tuple(self.fsq_levels))
        if self.format not in FORMATS:
            raise ValueError(f"convert.format={self.format}: must be one of {', '.join(FORMATS)}")
        if (self.format == "release") != (Path(self.out).suffix == ".safetensors"):
            rule = "a file.safetensors for format=release, else a folder"
            raise ValueError(f"convert.out={self.out}: must be {rule}")
        if Path(self.out).resolve() == Path(self.source).resolve():
            raise ValueError(f"convert.out={self.out}: must not be in={self.source}")


@dataclass(frozen=True)
class Found:
    """What was read: the tokenizer, where it came from, and its latent statistics if any."""

    tokenizer: VideoTokenizer
    lines: Sequence[str]
    statistics: LatentStatistics | None
    facts: Mapping[str, Any] = field(default_factory=dict)  # of a published folder: its data, …

    def describe(self) -> list[str]:
        """Lines for people: files, size and, where it is one, the preset."""
        config = self.tokenizer.config
        count = sum(parameter.numel() for parameter in self.tokenizer.parameters())
        kind = "image" if config.is_image else "video"
        latents = f"{config.latent_channels} latent channels"
        if config.fsq_levels is not None:
            latents = f"{config.num_codes:,} codes"
        time, space = config.temporal_compression, config.spatial_compression
        ratio = f"{space}x{space}" if config.is_image else f"{time}x{space}x{space}"
        statistics = "no latent statistics"
        if self.statistics is not None:
            statistics = f"latent statistics of {len(self.statistics.count)} latent frames"
        return [
            *self.lines,
            f"{kind} tokenizer {ratio}, {latents}, {count:,} parameters: {preset_of(config)}",
            statistics,
        ]


def preset_of(config: TokenizerConfig) -> str:
    """``preset NAME``, or in what the nearest preset differs."""
    config = replace(config, attention_window=None)
    names = [name for name, known in PRESETS.items() if known == config]
    if names:
        return f"preset {' = '.join(names)}"

    def differing(name: str) -> list[str]:
        known = PRESETS[name]
        return [
            f"{item.name}={getattr(config, item.name)}"
            for item in fields(config)
            if getattr(config, item.name) != getattr(known, item.name)
        ]

    nearest = min(PRESETS, key=lambda name: len(differing(name)))
    return f"no preset; {nearest} but for {', '.join(differing(nearest))}"


def read_tokenizer(config: ConvertTokenizerConfig) -> Found:
    """The tokenizer in ``config.source``, whose kind is found out; see `read_release` too.

    Raises ValueError naming the file, and each key that does not fit.
    """
    source = Path(config.source)
    if (source / RUN_WEIGHTS / CONFIG).is_file():
        source = source / RUN_WEIGHTS
    if is_diffusers_tokenizer(source):
        tokenizer, statistics = read_diffusers_tokenizer(source)
        return Found(tokenizer, [f"{source}: folder of diffusers"], statistics)
    if (source / CONFIG).is_file() and (source / TENSORS).is_file():
        config_json = read_json(source / CONFIG)
        facts = {n: value for n, value in config_json.items() if n not in ("schema", "kind", "net")}
        lines = [f"{source}: published folder"]
        return Found(load_tokenizer(source), lines, read_statistics(source), facts)
    tensors, lines = read_release(source, average=config.average)
    tokenizer = load_nvidia_tokenizer(
        tensors,
        spatial_compression=config.spatial_compression,
        temporal_compression=config.temporal_compression,
        fsq_levels=config.fsq_levels,
        num_groups=config.num_groups,
    )
    beside = (source if source.is_dir() else source.parent) / RELEASE_STATISTICS
    if not beside.is_file():
        return Found(tokenizer, lines, None)
    channels = tokenizer.config.latent_channels
    statistics = read_release_statistics(beside, channels=channels)
    return Found(tokenizer, [*lines, f"{beside}: latent statistics"], statistics)


def write_tokenizer(found: Found, out: Path | str, form: str) -> None:
    """Write ``found`` as one of `FORMATS`. Raises ValueError for what a format cannot hold."""
    out, tokenizer = Path(out), found.tokenizer
    if form == "diffusers":
        write_diffusers_tokenizer(out, tokenizer, found.statistics)
    elif form == "release":
        tensors = {n: t.contiguous() for n, t in release_tensors(tokenizer).items()}
        write_bytes(out, save(tensors, metadata={"format": "pt"}))
    else:
        (out / STATISTICS).unlink(missing_ok=True)
        net = {"kind": "tokenizer", "net": plain(asdict(tokenizer.config))}
        save_weights(out, {**found.facts, **net}, tokenizer.state_dict())
        if found.statistics is not None:
            write_statistics(out, found.statistics)
