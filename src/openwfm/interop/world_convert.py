"""``openwfm convert world``: files of a diffusion world of any kind to ours and those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from openwfm.diffusion import DiffusionWorldModel, DiT, load_world_model
from openwfm.diffusion.config import ConditionerConfig, EdmConfig, SamplerConfig
from openwfm.files import read_json, write_bytes
from openwfm.interop.diffusers_pipeline import (
    copy_text,
    is_pipeline,
    read_scheduler,
    read_transformer,
    text_folders,
    write_pipeline,
)
from openwfm.interop.dit import export_nvidia_dit, load_nvidia_dit
from openwfm.interop.dit_release import read_dit_release
from openwfm.interop.tokenizer_convert import (
    RELEASE_STATISTICS,
    ConvertTokenizerConfig,
    Found,
    read_tokenizer,
    write_tokenizer,
)
from openwfm.weights import CONFIG, TENSORS, load_strict, plain, save_weights

FORMATS = ("openwfm", "diffusers", "release")
LOGVAR = "logvar."
T5 = "t5-11b"
T5_TOKENS = 512  # prompts are padded with zeros to this length, unmasked


@dataclass(frozen=True, kw_only=True)
class ConvertWorldConfig:
    """A diffusion world's files into another form.

    ``tokenizer`` is a file or folder of its tokenizer, null: the one beside it. ``text`` is a
    folder of a T5 encoder and its tokenizer to put with it, null: the source's own. ``average``
    chooses the moving average of a training checkpoint: null where there is one, true or false
    always. The rest is what weights of others do not tell: NTK ratios (null: the release's), the
    type that RoPE is computed in, how many latent frames may be given, and what was trained on
    (null: unknown).
    """

    source: str
    out: str
    format: str = "openwfm"
    tokenizer: str | None = None
    text: str | None = None
    average: bool | None = None
    rope_scale: tuple[float, float, float] | None = None
    rope_dtype: str = "float32"
    max_frames: int = 2
    size: tuple[int, int] | None = None
    num_frames: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        for name, length in (("rope_scale", 3), ("size", 2)):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))
                if len(tuple(value)) != length:
                    raise ValueError(f"convert.{name}={value}: must be {length} numbers")
        if self.format not in FORMATS:
            raise ValueError(f"convert.format={self.format}: must be one of {', '.join(FORMATS)}")
        if (self.format == "release") != (Path(self.out).suffix == ".safetensors"):
            rule = "a file.safetensors for format=release, else a folder"
            raise ValueError(f"convert.out={self.out}: must be {rule}")
        if Path(self.out).resolve() == Path(self.source).resolve():
            raise ValueError(f"convert.out={self.out}: must not be in={self.source}")
        if self.max_frames < 1:
            raise ValueError(f"convert.max_frames={self.max_frames}: must be at least 1")


@dataclass(frozen=True)
class FoundWorld:
    """What was read: the model, its tokenizer, and where its text encoder is, if anywhere."""

    model: DiffusionWorldModel
    tokenizer: Found | None
    lines: Sequence[str]
    text: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # of a published folder: step, data

    def describe(self) -> list[str]:
        """Lines for people: files, sizes, ports."""
        config = self.model.net.config
        count = sum(parameter.numel() for parameter in self.model.net.parameters())
        ports = "condition mask" if config.condition_mask else "no condition mask"
        lines = [
            *self.lines,
            f"diffusion world, {count:,} parameters: {config.num_blocks} blocks of width "
            f"{config.width}, {ports}, text {config.text_width} wide",
        ]
        if self.tokenizer is not None:
            lines += self.tokenizer.describe()
        return [*lines, f"text encoder: {self.text or 'none'}"]


def read_world(config: ConvertWorldConfig) -> FoundWorld:
    """The world in ``config.source``, whose kind is found out.

    Raises ValueError naming the file, and each key that does not fit.
    """
    source = Path(config.source)
    if (source / "weights" / CONFIG).is_file():
        source = source / "weights"
    if is_pipeline(source):
        return _read_pipeline(config, source)
    if (source / CONFIG).is_file() and (source / TENSORS).is_file():
        return _read_ours(config, source)
    return _read_release(config, source)


def _read_ours(config: ConvertWorldConfig, source: Path) -> FoundWorld:
    model = load_world_model(source)
    known = (*model.export_config(), "schema")
    facts = {name: v for name, v in read_json(source / CONFIG).items() if name not in known}
    tokenizer = _tokenizer(config, source / "tokenizer")
    return FoundWorld(
        model, tokenizer, [f"{source}: published world"], _text(config, source), facts
    )


def _read_pipeline(config: ConvertWorldConfig, source: Path) -> FoundWorld:
    net = read_transformer(source / "transformer")
    sampler, sigma_data = read_scheduler(source / "scheduler")
    tokenizer = _tokenizer(config, source / "vae")
    assert tokenizer is not None
    objective = EdmConfig(learned_uncertainty=False, sigma_data=sigma_data)
    model = _world(config, net, objective, sampler, tokenizer)
    return FoundWorld(
        model,
        tokenizer,
        [f"{source}: pipeline of diffusers"],
        _text(config, source),
        _facts(config),
    )


def _read_release(config: ConvertWorldConfig, source: Path) -> FoundWorld:
    tensors, lines = read_dit_release(source, average=config.average)
    beside = source if source.is_dir() else source.parent
    place = Path(config.tokenizer) if config.tokenizer else beside
    statistics = (place if place.is_dir() else place.parent) / RELEASE_STATISTICS
    tokenizer = _tokenizer(config, beside) if config.tokenizer else None
    if tokenizer is None or tokenizer.statistics is None:
        raise ValueError(
            f"convert.tokenizer={config.tokenizer}: must be the tokenizer of this world with its "
            f"latent statistics ({statistics} is where they are looked for)"
        )
    logvar = {name: tensor for name, tensor in tensors.items() if name.startswith(LOGVAR)}
    net = load_nvidia_dit(tensors, rope_scale=config.rope_scale)
    objective = EdmConfig(learned_uncertainty=bool(logvar))
    model = _world(config, net, objective, SamplerConfig(), tokenizer)
    if model.logvar is not None:
        own = {name.removeprefix(LOGVAR): tensor for name, tensor in logvar.items()}
        load_strict(model.logvar, own, f"{source}: {LOGVAR}…")
    return FoundWorld(model, tokenizer, lines, _text(config, beside), _facts(config))


def _world(
    config: ConvertWorldConfig,
    net: DiT,
    objective: EdmConfig,
    sampler: SamplerConfig,
    tokenizer: Found,
) -> DiffusionWorldModel:
    """A model around a network that was read; its conditioner is the release's."""
    inside = net.config
    if inside.num_views > 1 or inside.codebook:
        raise ValueError(
            f"net.num_views={inside.num_views}, net.codebook={inside.codebook}: must be 1 and 0; "
            "load this network alone with openwfm.interop.nvidia.load_dit"
        )
    changes: dict[str, Any] = {"rope_dtype": config.rope_dtype}
    if config.rope_scale is not None:
        changes["rope_scale"] = config.rope_scale
    conditioner = ConditionerConfig(
        text_encoder=T5,
        text_width=inside.text_width,
        text_tokens=T5_TOKENS,
        max_frames=config.max_frames if inside.condition_mask else 0,
    )
    with torch.device("meta"):
        model = DiffusionWorldModel(
            net=replace(inside, **changes),
            objective=objective,
            conditioner=conditioner,
            sampler=sampler,
        )
    model.to_empty(device="cpu")
    load_strict(model.net, net.state_dict(), "network")
    z = inside.in_channels
    if (found := tokenizer.statistics) is None:  # diffusers then only scales by sigma_data
        model.set_latent_statistics(torch.zeros(z, 1), torch.ones(z, 1))
    else:
        model.set_latent_statistics(found.frame_mean, found.frame_std)
    return model.eval()


def _tokenizer(config: ConvertWorldConfig, beside: Path) -> Found | None:
    place = config.tokenizer or str(beside)
    return read_tokenizer(ConvertTokenizerConfig(source=place, out=f"{config.out}.tokenizer"))


def _text(config: ConvertWorldConfig, source: Path) -> Path | None:
    if config.text is not None:
        return Path(config.text)
    return source if text_folders(source) is not None else None


def _facts(config: ConvertWorldConfig) -> dict[str, Any]:
    data = {"size": config.size, "num_frames": config.num_frames, "fps": config.fps}
    known = {name: value for name, value in data.items() if value is not None}
    return {"data": known} if known else {}


def write_world(found: FoundWorld, out: Path | str, form: str) -> list[str]:
    """Write ``found`` as one of `FORMATS`; returns lines on what a reader should know.

    Raises ValueError for what a format cannot hold.
    """
    out, model = Path(out), found.model
    if form == "release":
        write_bytes(out, save(release_world(model), metadata={"format": "pt"}))
        return ["network and uncertainty only; its tokenizer: openwfm convert tokenizer"]
    if found.tokenizer is None:
        raise ValueError("convert.tokenizer: missing: a world is a network and its tokenizer")
    if form == "diffusers":
        return write_pipeline(out, model, found.tokenizer.tokenizer, found.text)
    if found.text is not None:
        copy_text(found.text, out / "text_encoder", out / "text_encoder")
    write_tokenizer(found.tokenizer, out / "tokenizer", "openwfm")
    save_weights(out, plain({**found.facts, **model.export_config()}), model.state_dict())
    return []


def release_world(model: DiffusionWorldModel) -> dict[str, Tensor]:
    """Tensors by the release's names: ``net.…`` and ``logvar.…``."""
    tensors = export_nvidia_dit(model.net)
    if model.logvar is not None:
        tensors |= {LOGVAR + name: value for name, value in model.logvar.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
