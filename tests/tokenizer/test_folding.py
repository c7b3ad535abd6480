"""The whole network as inference computes it, against the one that trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from openwfm.nn import winograd
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, streaming

SMALL = TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=1)
CONFIGS = {
    "8x8x8": SMALL,
    "8x8x8, window 2": replace(SMALL, attention_window=2),
    "8x16x16": replace(SMALL, spatial_compression=16),
    "4x8x8": replace(SMALL, temporal_compression=4),
    "4x8x8, patch 2": replace(SMALL, patch_size=2, temporal_compression=4),
    "8x8x8, patch 2": replace(SMALL, patch_size=2, channels_mult=(1, 1, 2, 2)),
    "4x4x4": replace(SMALL, spatial_compression=4, temporal_compression=4),
    "8x8x8, discrete": replace(SMALL, latent_channels=2, fsq_levels=(8, 5)),
    "image": replace(SMALL, temporal_compression=1, num_groups=4),
    "image, patch 2": replace(SMALL, temporal_compression=1, patch_size=2, num_groups=4),
}


def awake(config: TokenizerConfig) -> VideoTokenizer:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config).double().eval()
    for parameter in tokenizer.parameters():
        if parameter.ndim == 5:
            nn.init.kaiming_uniform_(parameter, a=1.0)
        else:
            nn.init.normal_(parameter, 0.3, 0.3)
    return tokenizer


def clip(config: TokenizerConfig, num_latents: int, batch: int = 1) -> Tensor:
    side, frames = config.spatial_compression, int(config.temporal.frames(num_latents))
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 3, frames, 2 * side, 3 * side)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(list(CONFIGS)),
    num_latents=st.integers(1, 4),
    batch=st.integers(1, 2),
    cells=st.sampled_from([1, 24, 10_240]),
    width=st.sampled_from([1, 256]),
)
def test_inference_equals_training(
    name: str, num_latents: int, batch: int, cells: int, width: int
) -> None:
    """In double precision: with any step, with and without minimal filtering."""
    tokenizer, video = awake(CONFIGS[name]), clip(CONFIGS[name], num_latents, batch)
    wanted = tokenizer.features(video)
    latents = wanted.detach().permute(0, 4, 1, 2, 3)
    pixels = tokenizer.decode(latents)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(winograd, "MIN_WIDTH", width)
        patch.setattr(streaming, "STEP_CELLS", cells)
        torch.testing.assert_close(tokenizer.features(video), wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(tokenizer.decode(latents), pixels, rtol=1e-10, atol=1e-10)
        if tokenizer.config.fsq_levels is None:
            steps = tokenizer.encode(video)
            torch.testing.assert_close(steps, latents, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["8x8x8", "8x16x16", "4x8x8, patch 2"])
@pytest.mark.parametrize("cells", [1, 10_240])
def test_inference_never_looks_ahead(
    name: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "MIN_WIDTH", 1)
    monkeypatch.setattr(streaming, "STEP_CELLS", cells)
    tokenizer, video = awake(CONFIGS[name]).float(), clip(CONFIGS[name], 4).float()
    t = tokenizer.temporal.ratio
    changed = video.clone()
    changed[:, :, 1 + t :] *= -1
    with torch.no_grad():
        latents, other = tokenizer.encode(video), tokenizer.encode(changed)
        frames, others = tokenizer.decode(latents), tokenizer.decode(other)
    assert torch.equal(latents[:, :, :2], other[:, :, :2])
    assert not torch.equal(latents[:, :, 2], other[:, :, 2])
    assert torch.equal(frames[:, :, : 1 + t], others[:, :, : 1 + t])
    assert not torch.equal(frames[:, :, 1 + t :], others[:, :, 1 + t :])


@pytest.mark.parametrize("name", ["8x8x8", "image"])
def test_every_parameter_counts_after_it_changed(name: str) -> None:
    """Change one at a time, after everything was derived: outputs are those of the new weights."""
    tokenizer, video = awake(CONFIGS[name]), clip(CONFIGS[name], 2)[:, :, :, :8, :16]
    with torch.no_grad():
        latents = tokenizer.encode(video)
        tokenizer.decode(latents)
        for key, parameter in tokenizer.named_parameters():
            encodes = key.startswith(("encoder.", "to_latents."))
            source, run = (video, tokenizer.encode) if encodes else (latents, tokenizer.decode)
            before = run(source)
            parameter.add_(torch.randn_like(parameter) * 0.1)
            after = run(source)
            if not key.endswith("key.bias"):  # the same for all keys: attention does not see it
                assert not torch.equal(before, after), key
            with torch.enable_grad():
                torch.testing.assert_close(after, run(source).detach(), rtol=1e-8, atol=1e-8)


def test_a_constant_clip_and_its_bands() -> None:
    """The wavelet in the first kernel: constant pixels are constant there, but for the border."""
    tokenizer = awake(CONFIGS["8x8x8"])
    video = torch.full((1, 3, 9, 16, 16), 0.25, dtype=torch.float64)
    space = tokenizer.encoder.conv_in.space
    wanted = space.bias + 0.25 * space.weight[:, :3].sum((1, 2, 3, 4))
    seen: list[Tensor] = []
    hook = tokenizer.encoder.conv_in.time.register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[0])
    )
    with torch.no_grad():
        tokenizer.encode(video)
    hook.remove()
    inside = seen[0][:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, wanted.expand_as(inside))


def test_steps_are_whole_latent_frames() -> None:
    config = TokenizerConfig()
    sizes = {side: streaming.latents_per_step(config, side**2) for side in (64, 128, 256, 1024)}
    assert sizes == {64: 20, 128: 5, 256: 1, 1024: 1}
