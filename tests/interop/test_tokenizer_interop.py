"""Our tokenizer against diffusers' AutoencoderKLCosmos, and the release's names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openwfm.interop.tokenizer import (
    from_diffusers_tokenizer,
    load_nvidia_tokenizer,
    to_diffusers_tokenizer,
)
from openwfm.interop.tokenizer_names import diffusers_name, image_name, original_name
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset

diffusers = pytest.importorskip("diffusers")

CONFIGS = {
    "8x8x8": TokenizerConfig(channels=8),
    "8x16x16": TokenizerConfig(channels=8, spatial_compression=16, num_res_blocks=1),
    "4x8x8": TokenizerConfig(channels=8, channels_mult=(2, 4), temporal_compression=4),
    "4x8x8, patch 2": TokenizerConfig(
        channels=8, patch_size=2, temporal_compression=4, num_res_blocks=1
    ),
    "8x8x8, patch 2": TokenizerConfig(
        channels=8, channels_mult=(1, 1, 2, 2), patch_size=2, num_res_blocks=1
    ),
}


def scrambled(module: nn.Module) -> nn.Module:
    """Random weights that are nowhere zero and keep activations near 1."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim == 5:
            bound = (3 / parameter[0].numel()) ** 0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        else:
            nn.init.normal_(parameter, 0.5, 0.3, generator=generator)
    return module.eval()


def error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("frames", [1, 9, 17])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_outputs_equal_diffusers(config: TokenizerConfig, frames: int) -> None:
    tokenizer = scrambled(VideoTokenizer(config))
    assert isinstance(tokenizer, VideoTokenizer)
    theirs: Any = to_diffusers_tokenizer(tokenizer)
    video = torch.rand(2, 3, frames, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        latents, wanted = tokenizer.encode(video), theirs.encode(video).latent_dist.mode()
        assert error(latents, wanted) < 1e-5
        assert error(tokenizer.decode(wanted), theirs.decode(wanted).sample) < 1e-5


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_diffusers_round_trip(config: TokenizerConfig) -> None:
    """Theirs to ours to theirs, starting from a module that diffusers built."""
    tokenizer = VideoTokenizer(config)
    start = scrambled(to_diffusers_tokenizer(tokenizer))
    ours = from_diffusers_tokenizer(start)
    assert ours.config == config
    end = to_diffusers_tokenizer(ours)
    for name, tensor in start.state_dict().items():
        assert torch.equal(tensor, end.state_dict()[name]), name


def test_default_diffusers_module_is_cv8x8x8() -> None:
    """310 tensors, strictly, at published width."""
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKLCosmos().state_dict()
        ours = VideoTokenizer(preset("cv8x8x8")).state_dict()
    assert len(theirs) == 310
    shapes = {diffusers_name(name, 3): tensor.shape for name, tensor in ours.items()}
    assert shapes == {name: tensor.shape for name, tensor in theirs.items()}


def test_names_of_the_release() -> None:
    """Names from the reference's table of the state dict, one of each kind."""
    with torch.device("meta"):
        tensors = VideoTokenizer(preset("cv8x8x8")).state_dict()
    shapes = {original_name(name): tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {
        "encoder.conv_in.0.conv3d.weight": (128, 192, 1, 3, 3),
        "encoder.conv_in.1.conv3d.bias": (128,),
        "encoder.down.0.block.0.norm1.norm.weight": (128,),
        "encoder.down.0.block.0.conv1.0.conv3d.weight": (256, 128, 1, 3, 3),
        "encoder.down.0.block.0.conv2.1.conv3d.weight": (256, 256, 3, 1, 1),
        "encoder.down.0.block.0.nin_shortcut.conv3d.weight": (256, 128, 1, 1, 1),
        "encoder.down.0.downsample.conv1.conv3d.weight": (256, 256, 1, 3, 3),
        "encoder.down.0.downsample.conv2.conv3d.weight": (256, 256, 3, 1, 1),
        "encoder.down.0.downsample.conv3.conv3d.weight": (256, 256, 1, 1, 1),
        "encoder.mid.block_1.norm2.norm.bias": (512,),
        "encoder.mid.attn_1.0.norm.norm.weight": (512,),
        "encoder.mid.attn_1.0.q.conv3d.weight": (512, 512, 1, 1, 1),
        "encoder.mid.attn_1.1.k.conv3d.weight": (512, 512, 1, 1, 1),
        "encoder.mid.attn_1.1.v.conv3d.bias": (512,),
        "encoder.mid.attn_1.1.proj_out.conv3d.weight": (512, 512, 1, 1, 1),
        "encoder.norm_out.norm.weight": (512,),
        "encoder.conv_out.0.conv3d.weight": (16, 512, 1, 3, 3),
        "decoder.conv_in.0.conv3d.weight": (512, 16, 1, 3, 3),
        "decoder.up.2.block.2.conv1.0.conv3d.weight": (512, 512, 1, 3, 3),
        "decoder.up.1.upsample.conv1.conv3d.weight": (512, 512, 3, 1, 1),
        "decoder.up.1.upsample.conv2.conv3d.weight": (512, 512, 1, 3, 3),
        "decoder.up.1.upsample.conv3.conv3d.weight": (512, 512, 1, 1, 1),
        "decoder.up.0.block.0.nin_shortcut.conv3d.weight": (256, 512, 1, 1, 1),
        "decoder.conv_out.1.conv3d.weight": (192, 192, 3, 1, 1),
        "quant_conv.conv3d.weight": (16, 16, 1, 1, 1),
        "post_quant_conv.conv3d.bias": (16,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert len(shapes) == 310
    kinds = re.compile(r"(\.conv3d|\.norm)\.(weight|bias)$")
    assert all(kinds.search(name) for name in shapes)


def release(config: TokenizerConfig) -> tuple[VideoTokenizer, dict[str, Tensor]]:
    tokenizer = scrambled(VideoTokenizer(config))
    assert isinstance(tokenizer, VideoTokenizer)
    tensors = {original_name(name): t for name, t in tokenizer.state_dict().items()}
    constants = {
        "encoder.patcher3d.wavelets": torch.full((2,), 0.5**0.5),
        "encoder.patcher3d._arange": torch.arange(2),
        "encoder.patcher3d.patch_size_buffer": torch.tensor([config.patch_size]),
        "decoder.unpatcher3d.wavelets": torch.full((2,), 0.5**0.5),
        "decoder.unpatcher3d._arange": torch.arange(2),
    }
    return tokenizer, tensors | constants


@pytest.mark.parametrize("prefix", ["network.", ""])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_release_loads_without_being_told_its_config(config: TokenizerConfig, prefix: str) -> None:
    tokenizer, tensors = release(config)
    loaded = load_nvidia_tokenizer({prefix + name: t for name, t in tensors.items()})
    assert loaded.config == config
    assert not loaded.training
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


DISCRETE = replace(CONFIGS["4x8x8, patch 2"], z_channels=12, latent_channels=2, fsq_levels=(8, 5))


def test_discrete_release() -> None:
    """Levels come from the file, or from the caller where the file has none."""
    tokenizer, tensors = release(DISCRETE)
    constants = {
        "quantizer._levels": torch.tensor([8, 5], dtype=torch.int32),
        "quantizer._basis": torch.tensor([1, 8], dtype=torch.int32),
        "quantizer.implicit_codebook": torch.zeros(40, 2),
    }
    loaded = load_nvidia_tokenizer(tensors | constants)
    assert loaded.config == DISCRETE
    assert load_nvidia_tokenizer(tensors, fsq_levels=(8, 5)).config == DISCRETE
    with pytest.raises(ValueError, match="fsq_levels=None: must be given, one .* the 2 channels"):
        load_nvidia_tokenizer(tensors)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert torch.equal(loaded.encode_indices(video), tokenizer.encode_indices(video))


IMAGE = TokenizerConfig(
    channels=32, channels_mult=(1, 2), num_res_blocks=1, temporal_compression=1, num_groups=32
)


@pytest.mark.parametrize(
    "config", [IMAGE, replace(IMAGE, patch_size=2, latent_channels=2, fsq_levels=(8, 5))]
)
def test_image_release(config: TokenizerConfig) -> None:
    tokenizer = scrambled(VideoTokenizer(config))
    tensors = {}
    for name, tensor in tokenizer.state_dict().items():
        tensors[image_name(name)] = tensor.squeeze(2) if tensor.ndim == 5 else tensor
    tensors["encoder.patcher.wavelets"] = torch.full((2,), 0.5**0.5)
    loaded = load_nvidia_tokenizer(tensors, fsq_levels=config.fsq_levels)
    assert loaded.config == config
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    with pytest.raises(ValueError, match="temporal_compression=4: must be 1"):
        load_nvidia_tokenizer(tensors, temporal_compression=4, fsq_levels=config.fsq_levels)


def test_image_names_of_the_release() -> None:
    """Names from the reference (3.1, 2D models). Its 206 tensors are ours, which come in pairs, and
    four of the five constants."""
    with torch.device("meta"):
        names = VideoTokenizer(preset("ci8x8_360p")).state_dict()
    found = {image_name(name) for name in names}
    assert len(found) == len(names) == 206 - 4
    kinds = r"(conv_in|conv_out|norm_out|{0}\.\d\.(block\.\d\.{1}|{2}\.conv)|mid\.({3}))"
    block = "(norm1|conv1|norm2|conv2|nin_shortcut)"
    middle = rf"block_[12]\.{block}|attn_1\.(norm|q|k|v|proj_out)"
    encoder = kinds.format("down", block, "downsample", middle)
    decoder = kinds.format("up", block, "upsample", middle)
    pattern = rf"(encoder\.{encoder}|decoder\.{decoder}|(post_)?quant_conv)\.(weight|bias)"
    assert [name for name in found if not re.fullmatch(pattern, name)] == []


def test_what_diffusers_cannot_express_is_refused() -> None:
    base = CONFIGS["8x8x8"]
    for config, words in (
        (replace(base, latent_channels=2, fsq_levels=(8, 5)), r"fsq_levels=\(8, 5\)"),
        (replace(base, attention_window=2), "attention_window=2: diffusers has none"),
        (replace(base, temporal_compression=1), "no image tokenizer"),
    ):
        with pytest.raises(ValueError, match=words):
            to_diffusers_tokenizer(VideoTokenizer(config))


def test_layers_that_the_first_releases_never_use_need_the_compression() -> None:
    config = CONFIGS["8x8x8"]
    _, tensors = release(config)
    tensors["encoder.down.1.downsample.conv1.conv3d.weight"] = torch.zeros(32, 32, 1, 3, 3)
    tensors["encoder.down.1.downsample.conv1.conv3d.bias"] = torch.zeros(32)
    with pytest.raises(ValueError, match="keys do not fit"):
        load_nvidia_tokenizer(tensors)
    assert load_nvidia_tokenizer(tensors, spatial_compression=8).config == config


def test_keys_that_do_not_fit_are_listed() -> None:
    _, tensors = release(CONFIGS["8x8x8"])
    tensors["encoder.conv_in.2.conv3d.weight"] = torch.zeros(1)
    del tensors["encoder.norm_out.norm.weight"]
    with pytest.raises(ValueError) as caught:
        load_nvidia_tokenizer(tensors)
    assert "unknown encoder.conv_in.2.conv3d.weight" in str(caught.value)
    assert "missing encoder.norm_out.weight" in str(caught.value)


@pytest.mark.parametrize("tensors", [{}, {"layers.0.weight": torch.zeros(1)}])
def test_other_networks_are_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="not a video tokenizer of the release"):
        load_nvidia_tokenizer(tensors)


def test_networks_that_ours_is_not_are_refused() -> None:
    small = {"encoder_block_out_channels": (8, 8, 8, 8), "num_layers": 1}
    with pytest.raises(ValueError, match="patch_type=rearrange"):
        from_diffusers_tokenizer(
            diffusers.AutoencoderKLCosmos(
                **small, decode_block_out_channels=(8, 8, 8, 8), patch_type="rearrange"
            )
        )
    with pytest.raises(ValueError, match="the widths of the encoder"):
        from_diffusers_tokenizer(
            diffusers.AutoencoderKLCosmos(**small, decode_block_out_channels=(16, 8, 8, 8))
        )
    with pytest.raises(ValueError, match="latent_channels=16"):
        to_diffusers_tokenizer(VideoTokenizer(TokenizerConfig(channels=8, z_channels=8)))
