"""What a tokenizer refuses says what, and the nearest that it takes; padding is undone exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.tokenizer.checks import check_crop, pad_clip

CONFIG = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
DISCRETE = TokenizerConfig(
    channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, latent_channels=2, fsq_levels=(8, 5)
)


def new(config: TokenizerConfig) -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "value, message",
    [
        (float("nan"), r"1 of 1728 values are NaN or infinite \(first at \(0, 1, 2, 0, 0\)\)"),
        (float("inf"), "1 of 1728 values are NaN or infinite"),
        (255.0, r"values from 0 to 255: must be in \[-1, 1\]"),
        (-1.01, r"values from -1.01 to 0: must be in \[-1, 1\]"),
    ],
)
def test_values_outside_the_range_are_refused(value: float, message: str) -> None:
    video = torch.zeros(1, 3, 9, 8, 8)
    video[0, 1, 2, 0, 0] = value
    with pytest.raises(ValueError, match=message):
        new(CONFIG).encode(video)


def test_bytes_are_told_how_to_become_pixels() -> None:
    with pytest.raises(ValueError, match=r"torch.uint8 .*x / 127.5 - 1"):
        new(CONFIG).encode(torch.zeros(1, 3, 9, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_type_than_that_of_the_weights_is_refused(dtype: torch.dtype) -> None:
    tokenizer = new(CONFIG)
    message = f"{dtype}: must be torch.float32, as the weights are"
    with pytest.raises(ValueError, match=f"video: {message}"):
        tokenizer.encode(torch.zeros(1, 3, 1, 8, 8, dtype=dtype))
    with pytest.raises(ValueError, match=f"latents: {message}"):
        tokenizer.decode(torch.zeros(1, 16, 1, 1, 1, dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert tokenizer.encode(torch.zeros(1, 3, 1, 8, 8)).shape == (1, 16, 1, 1, 1)


def test_bad_latents_are_refused() -> None:
    tokenizer = new(CONFIG)
    with pytest.raises(ValueError, match="latents: 16 of 16 values are NaN"):
        tokenizer.decode(torch.full((1, 16, 1, 1, 1), float("nan")))
    with pytest.raises(ValueError, match="f, y, x must be at least 1"):
        tokenizer.decode(torch.zeros(1, 16, 0, 1, 1))


@pytest.mark.parametrize(
    "value, message",
    [(40, "40 at .*must be from 0 to 39 .nearest: 39"), (-1, "-1 at .*nearest: 0")],
)
def test_indices_out_of_range_are_refused(value: int, message: str) -> None:
    indices = torch.zeros(1, 2, 1, 1, dtype=torch.int64)
    indices[0, 1] = value
    with pytest.raises(ValueError, match=message):
        new(DISCRETE).decode_indices(indices)


def test_indices_must_be_integers_of_a_discrete_tokenizer() -> None:
    with pytest.raises(ValueError, match="torch.float32 .*must be int32 or int64 b f y x"):
        new(DISCRETE).decode_indices(torch.zeros(1, 1, 1, 1))
    for call in (new(CONFIG).encode_indices, new(CONFIG).decode_indices):
        with pytest.raises(ValueError, match="fsq_levels=None: a continuous tokenizer has no"):
            call(torch.zeros(1, 3, 1, 8, 8))


def test_indices_are_the_codes() -> None:
    tokenizer = new(DISCRETE)
    video = torch.rand(2, 3, 9, 16, 16) * 2 - 1
    codes, indices = tokenizer.encode(video), tokenizer.encode_indices(video)
    assert indices.shape == (2, 2, 2, 2) and indices.dtype == torch.int32
    assert indices.min() >= 0 and indices.max() < 40
    assert torch.equal(tokenizer.codes(indices), codes)
    assert torch.equal(tokenizer.decode_indices(indices), tokenizer.decode(codes))
    assert torch.equal(tokenizer.decode(codes), tokenizer(video))


@settings(max_examples=25, deadline=None)
@given(
    t=st.integers(1, 20),
    h=st.integers(1, 20),
    w=st.integers(1, 20),
    time=st.sampled_from([1, 4, 8]),
)
def test_padding_is_minimal_and_undone_by_its_crop(t: int, h: int, w: int, time: int) -> None:
    config = TokenizerConfig(temporal_compression=time)
    video = torch.rand(1, 3, t, h, w)
    padded = pad_clip(video, config, "replicate")
    assert torch.equal(padded[:, :, :t, :h, :w], video)
    extra = [b - a for a, b in zip(video.shape[2:], padded.shape[2:], strict=True)]
    assert (padded.shape[2] - 1) % time == 0 and 0 <= extra[0] < time
    assert all(side % 8 == 0 for side in padded.shape[3:]) and all(0 <= e < 8 for e in extra[1:])
    last = video[:, :, -1:, -1:, -1:]
    assert torch.equal(padded[:, :, -1:, -1:, -1:], last)
    latent_size = (int(config.temporal.latent_frames(padded.shape[2])), -(-h // 8), -(-w // 8))
    assert check_crop((t, h, w), latent_size, config) == (t, h, w)


def test_a_padded_clip_comes_back_in_its_size() -> None:
    tokenizer = new(CONFIG)
    video = torch.rand(1, 3, 11, 13, 8) * 2 - 1
    with pytest.raises(ValueError, match="height=13"):
        tokenizer.encode(video)
    with pytest.raises(ValueError, match="pad=reflect: must be replicate or None"):
        tokenizer.encode(video, pad="reflect")  # type: ignore[arg-type]
    latents = tokenizer.encode(video, pad="replicate")
    assert latents.shape == (1, 16, 3, 2, 1)
    assert tokenizer.decode(latents, crop=(11, 13, 8)).shape == video.shape
    assert torch.equal(
        tokenizer.decode(latents, crop=(11, 13, 8)), tokenizer.decode(latents)[:, :, :11, :13, :8]
    )
    with pytest.raises(ValueError, match=r"crop: frames=9: must be from 10 to 17.*nearest: 10"):
        tokenizer.decode(latents, crop=(9, 13, 8))
    even = video[:, :, :9, :8]
    assert torch.equal(tokenizer.encode(even, pad="replicate"), tokenizer.encode(even))
