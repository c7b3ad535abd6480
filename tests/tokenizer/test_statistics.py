"""Moments against numpy in one go, and files that only ever belong to their own weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openwfm.callbacks.export import copy_weights
from openwfm.commands.train import _cache_latents
from openwfm.data.running import SMALLEST_STD, RunningStatistics
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.tokenizer.statistics import (
    LatentStatistics,
    read_release_statistics,
    read_statistics,
    write_statistics,
)
from openwfm.weights import plain, save_weights

NET = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)


def publish(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    net = {"kind": "tokenizer", "net": plain(asdict(NET))}
    save_weights(folder, net, VideoTokenizer(NET).state_dict())
    return folder


def measured(*parts: Tensor) -> RunningStatistics:
    running = RunningStatistics()
    for part in parts:
        running.update(part)
    return running


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(*(st.integers(low, 4) for low in (0, 1, 1, 1))), min_size=1, max_size=5
    ),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 2**16),
)
def test_pieces_of_any_shape_equal_numpy(
    sizes: list[tuple[int, ...]], offset: float, seed: int
) -> None:
    """A mean far from zero, where sums of squares lose every digit in fp32."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(b, 3, f, y, x, generator=generator, dtype=torch.float64) + offset
        for b, f, y, x in sizes
    ]
    running = measured(*parts)
    if not any(part.numel() for part in parts):
        with pytest.raises(ValueError, match="no latents to measure"):
            running.per_frame()
        return
    frames = running.per_frame()
    present = [part for part in parts if part.numel()]
    for frame in range(max(part.shape[2] for part in present)):
        values = np.concatenate(
            [part[:, :, frame].transpose(0, 1).flatten(1) for part in present
             if part.shape[2] > frame], 1)  # fmt: skip
        assert np.allclose(frames.mean[:, frame], values.mean(1), rtol=1e-12)
        assert np.allclose(frames.std[:, frame], values.std(1).clip(SMALLEST_STD), atol=1e-6)
        assert frames.count[:, frame].tolist() == [values.shape[1]] * 3
    everything = np.concatenate([part.transpose(0, 1).flatten(1) for part in present], 1)
    channels = running.per_channel()
    assert np.allclose(channels.mean, everything.mean(1), rtol=1e-12)
    assert np.allclose(channels.std, everything.std(1).clip(SMALLEST_STD), atol=1e-6)


def test_order_and_cuts_do_not_matter() -> None:
    latents = torch.randn(7, 4, 3, 2, 2) * 5 + 100
    whole = measured(latents).per_frame()
    pieces = measured(latents[4:], latents[:1], latents[1:4]).per_frame()
    assert torch.allclose(whole.mean, pieces.mean, rtol=1e-12)
    assert torch.allclose(whole.deviation, pieces.deviation, rtol=1e-9)


def test_bad_latents_are_refused() -> None:
    for value in (float("nan"), float("inf")):
        latents = torch.zeros(1, 4, 1, 2, 2)
        latents[0, 1] = value
        with pytest.raises(ValueError, match="NaN or infinite values"):
            measured(latents)
    with pytest.raises(ValueError, match="latents: 5 channels, before 4"):
        measured(torch.zeros(1, 4, 1, 1, 1), torch.zeros(1, 5, 1, 1, 1))


def test_files_round_trip_and_belong_to_their_weights(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    assert read_statistics(folder) is None
    statistics = LatentStatistics.of(measured(torch.randn(9, 16, 3, 2, 2)), {"num_clips": 9})
    write_statistics(folder, statistics)
    first = (folder / "latents.safetensors").read_bytes()
    write_statistics(folder, statistics)
    assert (folder / "latents.safetensors").read_bytes() == first
    read = read_statistics(folder)
    assert read is not None and read.facts["num_clips"] == 9
    for name in ("mean", "std", "frame_mean", "frame_std", "count"):
        assert torch.equal(getattr(read, name), getattr(statistics, name)), name
    copy_weights(folder, tmp_path / "copy")
    assert read_statistics(tmp_path / "copy") is not None
    publish(folder, seed=1)
    with pytest.raises(ValueError, match="latents.safetensors: of weights .*measure them again"):
        read_statistics(folder)
    for data in (first[:-3], b"", b"junk" * 9):
        (folder / "latents.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match="latents.safetensors: "):
            read_statistics(folder)


def test_channels_of_frames_are_the_law_of_total_variance() -> None:
    """With equal counts, per-frame values determine those of the channels."""
    running = measured(torch.randn(6, 16, 4, 3, 3) * 2 + torch.randn(16, 4, 1, 1))
    exact = LatentStatistics.of(running, {})
    rebuilt = LatentStatistics.of_frames(exact.frame_mean, exact.frame_std, {})
    torch.testing.assert_close(rebuilt.mean, exact.mean)
    torch.testing.assert_close(rebuilt.std, exact.std)


def test_statistics_of_the_release(tmp_path: Path) -> None:
    """256 values, channel-major: the second value is the second frame of the first channel."""
    mean, std = torch.arange(256.0), torch.arange(256.0) + 1
    torch.save((mean, std), tmp_path / "mean_std.pt")
    found = read_release_statistics(tmp_path / "mean_std.pt")
    assert found.frame_mean.shape == (16, 16)
    assert found.frame_mean[0, 1] == 1 and found.frame_mean[1, 0] == 16
    torch.save([mean[:16].bfloat16(), std[:16].bfloat16()], tmp_path / "image_mean_std.pt")
    assert read_release_statistics(tmp_path / "image_mean_std.pt").frame_mean.shape == (16, 1)


@pytest.mark.parametrize("value, message", [
    (torch.zeros(3), "must be the two tensors"),
    ((torch.zeros(256), 3), "must be the two tensors"),
    ((torch.zeros(255), torch.ones(255)), "255 and 255 values: must be the same multiple of chan"),
    ((torch.zeros(256), torch.ones(16)), "256 and 16 values"),
    ((torch.zeros(256), torch.zeros(256)), "std: must be positive"),
    ((torch.full((256,), float("nan")), torch.ones(256)), "mean: must be finite"),
])  # fmt: skip
def test_bad_statistics_of_the_release(value: object, message: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "mean_std.pt")
    with pytest.raises(ValueError, match=f"mean_std.pt: .*{message}"):
        read_release_statistics(tmp_path / "mean_std.pt")


class _Module:
    """What `openwfm train` asks of a world model."""

    def __init__(self, folder: Path, weights: str | None = None) -> None:
        self.tokenizer_folder, self.weights = str(folder), weights
        self.statistics: tuple[Tensor, Tensor] | None = None

    def configure_model(self) -> None: ...

    def encode_latents(self, video: Tensor) -> Tensor:
        raise AssertionError("there is no cache to fill")

    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        self.statistics = mean, std


def test_training_without_a_cache_takes_the_tokenizers_statistics(tmp_path: Path) -> None:
    folder, data = publish(tmp_path), SimpleNamespace(config=SimpleNamespace(latents=None))
    module = _Module(folder)
    _cache_latents(module, data)
    assert module.statistics is None
    statistics = LatentStatistics.of(measured(torch.randn(9, 16, 3, 2, 2)), {})
    write_statistics(folder, statistics)
    _cache_latents(module, data)
    assert module.statistics is not None
    assert torch.equal(module.statistics[0], statistics.frame_mean)
    started = _Module(folder, weights="published")
    _cache_latents(started, data)
    assert started.statistics is None, "published weights keep their own"
