"""Tokenizer weights of the original release and of diffusers, as maps between names.

Tensors keep their values and shapes in all three (but for images, whose kernels the release keeps
without a time axis); only names differ (`openwfm.interop.tokenizer_names`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from openwfm.extras import require
from openwfm.interop.tokenizer_names import diffusers_name, image_name, is_constant, original_name
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.presets import FSQ_LEVELS
from openwfm.weights import load_strict

IMAGE_GROUPS = 32  # of normalisation, in the release's image networks
_RESAMPLING = re.compile(
    r"^(encoder\.down\.(\d+)\.downsample|decoder\.up\.(\d+)\.upsample)\.(conv\d)\."
)


def _build(
    config: TokenizerConfig,
    tensors: Mapping[str, Tensor],
    rename: Callable[[str], str],
    source: str,
) -> VideoTokenizer:
    """An eval-mode tokenizer from tensors under other names; ValueError lists what does not fit."""
    tokenizer = VideoTokenizer(config)
    ours = {rename(name): name for name in tokenizer.state_dict()}
    load_strict(tokenizer, {ours.get(name, name): t for name, t in tensors.items()}, source)
    return tokenizer.eval()


def from_diffusers_tokenizer(module: nn.Module) -> VideoTokenizer:
    """Our tokenizer with the weights of ``module``, a diffusers ``AutoencoderKLCosmos``.

    Raises ValueError when ``module`` has a wavelet, attention or output that ours has not.
    """
    return tokenizer_of_diffusers(module.config, module.state_dict(), "AutoencoderKLCosmos")


def tokenizer_of_diffusers(
    theirs: Any, tensors: Mapping[str, Tensor], source: str
) -> VideoTokenizer:
    """As `from_diffusers_tokenizer`, from diffusers' config (an object with its fields) and
    tensors."""
    encoder, decoder = theirs.encoder_block_out_channels, theirs.decode_block_out_channels
    if theirs.patch_type != "haar" or theirs.in_channels != theirs.out_channels:
        raise ValueError(
            f"AutoencoderKLCosmos: patch_type={theirs.patch_type}, in_channels="
            f"{theirs.in_channels}, out_channels={theirs.out_channels}: must be haar and equal"
        )
    if (*encoder[1:], encoder[-1]) != tuple(decoder):
        raise ValueError(
            f"AutoencoderKLCosmos: decode_block_out_channels={tuple(decoder)}: "
            f"must be {(*encoder[1:], encoder[-1])}, the widths of the encoder"
        )
    config = TokenizerConfig(
        channels=encoder[0],
        channels_mult=_multiples(encoder[0], encoder[1:]),
        num_res_blocks=theirs.num_layers,
        patch_size=theirs.patch_size,
        spatial_compression=theirs.spatial_compression_ratio,
        temporal_compression=theirs.temporal_compression_ratio,
        z_channels=theirs.latent_channels,
        latent_channels=theirs.latent_channels,
        in_channels=theirs.in_channels,
    )
    levels = len(config.channels_mult)
    return _build(config, tensors, lambda name: diffusers_name(name, levels), source)


def to_diffusers_tokenizer(tokenizer: VideoTokenizer) -> nn.Module:
    """An eval-mode ``AutoencoderKLCosmos`` with our weights.

    Its latent statistics are left out, because they belong to other weights. Raises ValueError for
    a config that diffusers cannot express.
    """
    diffusers = require("diffusers", extra="diffusers")
    config = tokenizer.config
    for field in ("fsq_levels", "attention_window"):
        if getattr(config, field) is not None:
            raise ValueError(f"tokenizer.{field}={getattr(config, field)}: diffusers has none")
    if config.is_image:
        raise ValueError("tokenizer.temporal_compression=1: diffusers has no image tokenizer")
    if config.z_channels != config.latent_channels or config.num_groups != 1:
        raise ValueError(
            f"tokenizer.z_channels={config.z_channels}: diffusers needs latent_channels="
            f"{config.latent_channels} to equal it, and num_groups={config.num_groups} to be 1"
        )
    module: nn.Module = diffusers.AutoencoderKLCosmos(
        in_channels=config.in_channels,
        out_channels=config.in_channels,
        latent_channels=config.latent_channels,
        encoder_block_out_channels=(config.channels, *config.widths),
        decode_block_out_channels=(*config.widths, config.widths[-1]),
        attention_resolutions=(),
        num_layers=config.num_res_blocks,
        patch_size=config.patch_size,
        spatial_compression_ratio=config.spatial_compression,
        temporal_compression_ratio=config.temporal_compression,
        latents_mean=None,
        latents_std=None,
    )
    levels = len(config.channels_mult)
    tensors = {diffusers_name(n, levels): t for n, t in tokenizer.state_dict().items()}
    load_strict(module, tensors, "VideoTokenizer")
    return module.eval()


def load_nvidia_tokenizer(
    state_dict: Mapping[str, Tensor],
    *,
    in_channels: int = 3,
    spatial_compression: int | None = None,
    temporal_compression: int | None = None,
    fsq_levels: tuple[int, ...] | None = None,
    num_groups: int | None = None,
) -> VideoTokenizer:
    """An eval-mode tokenizer from tensors with the original release's names.

    The config is read from keys and shapes. ``fsq_levels`` is needed for a discrete tokenizer whose
    file does not hold them, and ``num_groups`` where they are not the release's own. Compression is
    read from the resampling layers that exist; give it where a file holds layers that its network
    does not use (the first releases do):
    then those are left out. Raises ValueError listing every key that does not fit.
    """
    tensors = {
        name.removeprefix("network."): tensor
        for name, tensor in state_dict.items()
        if not is_constant(name)
    }
    source = "state dict of the original release"
    if fsq_levels is None:
        stored = [t for name, t in state_dict.items() if name.endswith("quantizer._levels")]
        fsq_levels = tuple(int(count) for count in stored[0]) if stored else None
    image = "encoder.conv_in.weight" in tensors
    if image:
        if temporal_compression not in (None, 1):
            raise ValueError(
                f"temporal_compression={temporal_compression}: must be 1, the file is of images"
            )
        tensors = {n: t.unsqueeze(2) if t.ndim == 4 else t for n, t in tensors.items()}
    config = _read_config(
        tensors,
        image=image,
        in_channels=in_channels,
        spatial_compression=spatial_compression,
        temporal_compression=temporal_compression,
        fsq_levels=fsq_levels,
        num_groups=num_groups,
    )
    if image:
        return _build(config, tensors, image_name, source)
    if spatial_compression is not None or temporal_compression is not None:
        tensors = _without_unused(tensors, config)
    return _build(config, tensors, original_name, source)


def _read_config(
    tensors: Mapping[str, Tensor],
    *,
    image: bool,
    in_channels: int,
    spatial_compression: int | None,
    temporal_compression: int | None,
    fsq_levels: tuple[int, ...] | None,
    num_groups: int | None,
) -> TokenizerConfig:
    first, conv = ("", "") if image else (".0.conv3d", ".conv3d")
    levels = _count(tensors, r"^encoder\.down\.(\d+)\.")
    conv_in = _shape(tensors, f"encoder.conv_in{first}.weight")
    widths = [
        _shape(tensors, f"encoder.down.{level}.block.0.conv1{first}.weight")[0]
        for level in range(levels)
    ]
    axes = 2 if image else 3
    patch = round((conv_in[1] / in_channels) ** (1 / axes))
    if in_channels * patch**axes != conv_in[1]:
        raise ValueError(
            f"encoder.conv_in{first}.weight: {conv_in[1]} input channels: must be "
            f"in_channels={in_channels} times a {'square' if image else 'cube'}"
        )
    latents, z = _shape(tensors, f"quant_conv{conv}.weight")[:2]
    if latents != z and fsq_levels is None:
        raise ValueError(
            f"fsq_levels=None: must be given, one number for each of the {latents} channels that "
            f"the file has between {z}: it looks discrete, and does not hold its levels "
            f"(the published ones have {FSQ_LEVELS})"
        )
    time = patch * 2 ** _branches(tensors, "conv2.conv3d")
    return TokenizerConfig(
        channels=conv_in[0],
        channels_mult=_multiples(conv_in[0], widths),
        num_res_blocks=_count(tensors, r"^encoder\.down\.0\.block\.(\d+)\."),
        patch_size=patch,
        spatial_compression=spatial_compression
        or patch * 2 ** _branches(tensors, "conv" if image else "conv1.conv3d"),
        temporal_compression=1 if image else temporal_compression or time,
        z_channels=z,
        latent_channels=latents,
        in_channels=in_channels,
        num_groups=num_groups or (IMAGE_GROUPS if image else 1),
        fsq_levels=fsq_levels,
    )


def _without_unused(tensors: Mapping[str, Tensor], config: TokenizerConfig) -> dict[str, Tensor]:
    """Drop layers of resampling branches that ``config`` does not have."""
    with torch.device("meta"):
        used = {original_name(name) for name in VideoTokenizer(config).state_dict()}
    return {n: t for n, t in tensors.items() if n in used or not _RESAMPLING.match(n)}


def _branches(tensors: Mapping[str, Tensor], conv: str) -> int:
    pattern = re.compile(rf"^encoder\.down\.\d+\.downsample\.{conv}\.weight$")
    return sum(1 for name in tensors if pattern.match(name))


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in tensors:
        shown = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise ValueError(f"{name}: missing; not a video tokenizer of the release (it has {shown})")
    return tuple(tensors[name].shape)


def _multiples(channels: int, widths: list[int] | tuple[int, ...]) -> tuple[int, ...]:
    for width in widths:
        if width % channels:
            raise ValueError(f"width={width}: must be a multiple of the first width {channels}")
    return tuple(width // channels for width in widths)
