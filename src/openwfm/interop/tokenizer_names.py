"""Names of a tokenizer's tensors: ours, the original release's, diffusers'.

Maps run from our names outwards, and are inverted over the names of a network built for the
purpose, so that a key without a place is always an error and never a silent loss.
"""

from __future__ import annotations

import re

# Constants of the wavelet and of quantisation, stored by some releases.
CONSTANTS = ("wavelets", "_arange", "patch_size_buffer", "_levels", "_basis", "implicit_codebook")

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

# The release's names of image networks, from those of networks of clips.
_ORIGINAL_TO_IMAGE = (
    (r"\.mid\.attn_1\.0\.", ".mid.attn_1."),
    (r"\.(downsample|upsample)\.conv\d\.", r".\1.conv."),
    (r"(\.0)?\.conv3d\.", "."),
    (r"\.(norm1|norm2|norm|norm_out)\.norm\.", r".\1."),
)


def is_constant(name: str) -> bool:
    """Whether a name of the release is of a constant, which our network does not store."""
    return name.rpartition(".")[2] in CONSTANTS


def original_name(name: str) -> str:
    """Name in the original release of one of our tensors."""
    for pattern, replacement in _TO_ORIGINAL:
        name = re.sub(pattern, replacement, name)
    return name


def image_name(name: str) -> str:
    """Name in the original release of one of our tensors, where the network is of images."""
    name = original_name(name)
    for pattern, replacement in _ORIGINAL_TO_IMAGE:
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
