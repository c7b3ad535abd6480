"""Folders of diffusers' ``AutoencoderKLCosmos``: config.json and safetensors, strictly.

Reading needs no diffusers: names and config are mapped here, and every key must fit. Writing lets
diffusers itself describe the network, so that its ``from_pretrained`` reads what it wrote.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from openwfm.files import atomic_path, read_json
from openwfm.interop.tokenizer import to_diffusers_tokenizer, tokenizer_of_diffusers
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.statistics import LatentStatistics
from openwfm.weights import CONFIG, read_tensors

KIND = "AutoencoderKLCosmos"
TENSORS = "diffusion_pytorch_model.safetensors"
NEEDED = (
    *("encoder_block_out_channels", "decode_block_out_channels", "num_layers", "patch_size"),
    *("spatial_compression_ratio", "temporal_compression_ratio", "latent_channels", "patch_type"),
    *("in_channels", "out_channels"),
)


def is_diffusers_tokenizer(folder: Path | str) -> bool:
    """Whether a folder's config.json says that it is one."""
    file = Path(folder) / CONFIG
    config = read_json(file) if file.is_file() else None
    return isinstance(config, dict) and config.get("_class_name") == KIND


def read_diffusers_tokenizer(folder: Path | str) -> tuple[VideoTokenizer, LatentStatistics | None]:
    """The tokenizer, and its latent statistics where the config has some.

    Raises ValueError naming the file and every key, value or tensor that does not fit.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    missing = [name for name in NEEDED if name not in config]
    if missing:
        raise ValueError(f"{folder / CONFIG}: lacks {', '.join(missing)}")
    tensors = read_shards(folder)
    fields = SimpleNamespace(**config)
    tokenizer = tokenizer_of_diffusers(fields, tensors, str(folder / TENSORS))
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return tokenizer, None
    channels = tokenizer.config.latent_channels
    if len(mean) != len(std) or not mean or len(mean) % channels:
        raise ValueError(
            f"{folder / CONFIG}: {len(mean)} latents_mean and {len(std)} latents_std: must be the "
            f"same multiple of latent_channels={channels}"
        )
    values = torch.tensor([mean, std], dtype=torch.float32).view(2, channels, -1)
    facts = {"source": str(folder / CONFIG)}
    return tokenizer, LatentStatistics.of_frames(values[0], values[1], facts)


def write_diffusers_tokenizer(
    folder: Path | str, tokenizer: VideoTokenizer, statistics: LatentStatistics | None = None
) -> None:
    """A folder for ``AutoencoderKLCosmos.from_pretrained``; config.json arrives last.

    Raises ValueError for a config that diffusers cannot express.
    """
    folder = Path(folder)
    module = to_diffusers_tokenizer(tokenizer)
    if statistics is not None:
        module.register_to_config(  # type: ignore[operator]
            latents_mean=statistics.frame_mean.flatten().tolist(),
            latents_std=statistics.frame_std.flatten().tolist(),
        )
    save_module(folder, module)


def save_module(folder: Path | str, module: Any) -> None:
    """``module.save_pretrained`` into ``folder``, each file whole or absent, config.json last.

    Tensors of an earlier export are removed, since an index of theirs would be read first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".diffusers.") as temporary:
        module.save_pretrained(temporary, safe_serialization=True)
        written = sorted(Path(temporary).iterdir(), key=lambda file: file.name == CONFIG)
        for old in folder.glob("diffusion_pytorch_model*.safetensors*"):
            old.unlink()
        for file in written:
            with atomic_path(folder / file.name) as target:
                file.replace(target)


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder of diffusers: one safetensors file, or several and their index.

    Raises ValueError naming the file that is missing or does not fit its index.
    """
    index = folder / f"{TENSORS}.index.json"
    if (folder / TENSORS).is_file():
        return read_tensors(folder / TENSORS)
    if not index.is_file():
        raise ValueError(f"{folder / TENSORS}: no such file (only safetensors are read)")
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise ValueError(f"{index}: lacks weight_map")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{index}: names {name}: no such file beside it")
        tensors |= read_tensors(folder / name)
    if differ := sorted(set(places) ^ set(tensors)):
        raise ValueError(f"{index}: does not fit its files: {', '.join(differ[:5])}")
    return tensors
