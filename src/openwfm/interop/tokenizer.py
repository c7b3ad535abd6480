"""Tokenizer weights of the original release and of diffusers, as maps between names.

Tensors keep their values and shapes in all three; only names differ. Maps run from our names
outwards, and are inverted over the names of a network built for the purpose, so that a key without
a place is always an error and never a silent loss.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from openwfm.extras import require
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.weights import load_strict

_TO_ORIGINAL = (
    (r"^encoder\.levels\.", "encoder.down."),
    (r"^decoder\.levels\.", "decoder.up."),
    (r"^(encoder\.down\.\d+)\.resample\.space\.", r"\1.downsample.conv1.conv3d."),
    (r"^(encoder\.down\.\d+)\.resample\.time\.", r"\1.downsample.conv2.conv3d."),
    (r"^(encoder\.down\.\d+)\.resample\.mix\.", r"\1.downsample.conv3.conv3d."),
    (r"^(decoder\.up\.\d+)\.resample\.time\.", r"\1.upsample.conv1.conv3d."),
    (r"^(decoder\.up\.\d+)\.resample\.space\.", r"\1.upsample.conv2.conv3d."),
    (r"^(decoder\.up\.\d+)\.resample\.mix\.", r"\1.upsample.conv3.conv3d."),
    (r"\.blocks\.", ".block."),
    (r"\.middle\.block", ".mid.block_"),
    (r"\.middle\.attention_space\.", ".mid.attn_1.0."),
    (r"\.middle\.attention_time\.", ".mid.attn_1.1."),
    (r"\.(query|key|value)\.", lambda found: f".{found[1][0]}.conv3d."),
    (r"\.output\.", ".proj_out.conv3d."),
    (r"\.shortcut\.", ".nin_shortcut.conv3d."),
    (r"\.(norm1|norm2|norm|norm_out)\.", r".\1.norm."),
    (r"\.space\.", ".0.conv3d."),
    (r"\.time\.", ".1.conv3d."),
    (r"^to_latents\.", "quant_conv.conv3d."),
    (r"^from_latents\.", "post_quant_conv.conv3d."),
)

_ORIGINAL_TO_DIFFUSERS = (
    (r"^encoder\.down\.", "encoder.down_blocks."),
    (r"\.block\.", ".resnets."),
    (r"\.downsample\.(conv\d)\.conv3d\.", r".downsamplers.0.\1."),
    (r"\.upsample\.(conv\d)\.conv3d\.", r".upsamplers.0.\1."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.0\.", ".mid_block.attentions.0."),
    (r"\.mid\.attn_1\.1\.", ".mid_block.temp_attentions.0."),
    (r"\.([qkv])\.conv3d\.", r".to_\1."),
    (r"\.proj_out\.conv3d\.", ".to_out.0."),
    (r"\.nin_shortcut\.conv3d\.", ".conv_shortcut."),
    (r"\.0\.conv3d\.", ".conv_s."),
    (r"\.1\.conv3d\.", ".conv_t."),
    (r"^(quant_conv|post_quant_conv)\.conv3d\.", r"\1."),
)

# Constants of the wavelet, stored by some releases.
_CONSTANTS = ("wavelets", "_arange", "patch_size_buffer")
_RESAMPLING = re.compile(
    r"^(encoder\.down\.(\d+)\.downsample|decoder\.up\.(\d+)\.upsample)\.(conv\d)\."
)


def original_name(name: str) -> str:
    """Name in the original release of one of our tensors."""
    for pattern, replacement in _TO_ORIGINAL:
        name = re.sub(pattern, replacement, name)
    return name


def diffusers_name(name: str, num_levels: int) -> str:
    """Name in ``AutoencoderKLCosmos`` of one of our tensors; decoder levels count down there."""
    name = original_name(name)
    name = re.sub(
        r"^decoder\.up\.(\d+)\.",
        lambda found: f"decoder.up_blocks.{num_levels - 1 - int(found[1])}.",
        name,
    )
    for pattern, replacement in _ORIGINAL_TO_DIFFUSERS:
        name = re.sub(pattern, replacement, name)
    return name


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
    theirs: Any = module.config
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
    return _build(
        config,
        module.state_dict(),
        lambda name: diffusers_name(name, levels),
        "AutoencoderKLCosmos",
    )


def to_diffusers_tokenizer(tokenizer: VideoTokenizer) -> nn.Module:
    """An eval-mode ``AutoencoderKLCosmos`` with our weights.

    Its latent statistics are left out, because they belong to other weights. Raises ValueError for
    a config that diffusers cannot express.
    """
    diffusers = require("diffusers", extra="diffusers")
    config = tokenizer.config
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
) -> VideoTokenizer:
    """An eval-mode tokenizer from tensors with the original release's names.

    The config is read from keys and shapes. Compression is read from the resampling layers that
    exist; give it where a file holds layers that its network does not use (the first releases do):
    then those are left out. Raises ValueError listing every key that does not fit.
    """
    tensors = {
        name.removeprefix("network."): tensor
        for name, tensor in state_dict.items()
        if name.rsplit(".", 1)[-1] not in _CONSTANTS
    }
    config = _read_config(tensors, in_channels, spatial_compression, temporal_compression)
    if spatial_compression is not None or temporal_compression is not None:
        tensors = _without_unused(tensors, config)
    return _build(config, tensors, original_name, "state dict of the original release")


def _read_config(
    tensors: Mapping[str, Tensor],
    in_channels: int,
    spatial_compression: int | None,
    temporal_compression: int | None,
) -> TokenizerConfig:
    levels = _count(tensors, r"^encoder\.down\.(\d+)\.")
    conv_in = _shape(tensors, "encoder.conv_in.0.conv3d.weight")
    widths = [
        _shape(tensors, f"encoder.down.{level}.block.0.conv1.0.conv3d.weight")[0]
        for level in range(levels)
    ]
    patch = round((conv_in[1] / in_channels) ** (1 / 3))
    if in_channels * patch**3 != conv_in[1]:
        raise ValueError(
            f"encoder.conv_in.0.conv3d.weight: {conv_in[1]} input channels: must be "
            f"in_channels={in_channels} times a cube"
        )
    return TokenizerConfig(
        channels=conv_in[0],
        channels_mult=_multiples(conv_in[0], widths),
        num_res_blocks=_count(tensors, r"^encoder\.down\.0\.block\.(\d+)\."),
        patch_size=patch,
        spatial_compression=spatial_compression or patch * 2 ** _branches(tensors, "conv1"),
        temporal_compression=temporal_compression or patch * 2 ** _branches(tensors, "conv2"),
        z_channels=_shape(tensors, "quant_conv.conv3d.weight")[1],
        latent_channels=_shape(tensors, "quant_conv.conv3d.weight")[0],
        in_channels=in_channels,
    )


def _without_unused(tensors: Mapping[str, Tensor], config: TokenizerConfig) -> dict[str, Tensor]:
    """Drop layers of resampling branches that ``config`` does not have."""
    with torch.device("meta"):
        used = {original_name(name) for name in VideoTokenizer(config).state_dict()}
    return {n: t for n, t in tensors.items() if n in used or not _RESAMPLING.match(n)}


def _branches(tensors: Mapping[str, Tensor], conv: str) -> int:
    pattern = re.compile(rf"^encoder\.down\.\d+\.downsample\.{conv}\.conv3d\.weight$")
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
