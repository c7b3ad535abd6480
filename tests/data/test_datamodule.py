from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from openwfm.data import windows
from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.latents import LatentCache
from openwfm.data.windows import FrameCache, cut_windows, decode_clip


def module(shards: Path, **values: object) -> ShardDataModule:
    return ShardDataModule(config=DataConfig(shards=str(shards), **values))  # type: ignore[arg-type]


def first(loader: object, count: int) -> list[VideoBatch]:
    return list(itertools.islice(iter(loader), count))  # type: ignore[call-overload]


def test_batches_are_typed_scaled_and_shaped(tiny_shards: Path) -> None:
    data = module(tiny_shards, batch_size=4, text="required", text_tokens=6)
    batch = first(data.train_dataloader(), 1)[0]
    assert isinstance(batch, VideoBatch) and len(batch) == 4
    assert batch.video is not None and batch.video.shape == (4, 3, 17, 32, 32)
    assert -1 <= batch.video.min() < batch.video.max() <= 1
    assert batch.text is not None and batch.text.shape == (4, 6, 384)
    assert batch.fps.tolist() == [24.0] * 4


def test_windows_hold_the_frames_of_the_clip(tiny_shards: Path) -> None:
    data = module(tiny_shards, num_frames=9)
    frames = data.frames("train")
    key = sorted(frames.lengths)[0]
    whole = decode_clip(data._open().read(key, "mp4"), key)
    cut = [w for w in data.windows("train") if w.key == key]
    assert [w.start for w in cut] == list(range(25 - 9 + 1))
    for window in cut[::5]:
        assert np.array_equal(frames.read(window), whole[window.start : window.start + 9])


def test_lengths_and_sizes_cost_no_decoding(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they are those of the decoded clips, in the order of the cache."""
    shards = tmp_path / "shards"
    shutil.copytree(tiny_shards, shards, ignore=shutil.ignore_patterns(".cache"))
    decoded = module(shards).frames("train")
    with monkeypatch.context() as patch:
        patch.setattr(windows, "decode_clip", pytest.fail)
        data = module(shards)
        frames = data.frames("train")
        listed, facts = data.windows("train"), data.export_config()
    assert not (shards / ".cache").exists()
    real = FrameCache.of_clips(
        tmp_path / "cache",
        {},
        ((key, decode_clip(data._open().read(key, "mp4"), key)) for key in data.keys("train")),
    )
    assert frames.spans == decoded.spans == real.spans
    assert listed == module(shards).windows("train") and facts == module(shards).export_config()
    assert np.array_equal(frames.read(listed[3]), real.read(listed[3]))


def test_a_clip_that_is_not_what_its_json_says(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(tiny_shards, shards, ignore=shutil.ignore_patterns(".cache"))
    whole = windows.decode_clip
    monkeypatch.setattr(windows, "decode_clip", lambda data, name: whole(data, name)[:-1])
    with pytest.raises(ValueError, match="holds 24 frames of 32x32, but its json says 25 of 32x32"):
        module(shards).dataset("train")


def test_splits_share_no_source(tiny_shards: Path) -> None:
    data = module(tiny_shards)
    index = data._open()
    sources = {
        s: {index.metadata(k)["source"] for k in data.keys(s)} for s in ("train", "val", "test")
    }
    assert all(sources.values())
    assert not sources["train"] & sources["val"] and not sources["val"] & sources["test"]
    assert sum(len(data.keys(split)) for split in sources) == len(index)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tiny_shards: Path, workers: int) -> None:
    plain = first(module(tiny_shards, flip=0.5).train_dataloader(), 4)
    parallel = first(module(tiny_shards, flip=0.5, num_workers=workers).train_dataloader(), 4)
    for one, other in zip(plain, parallel, strict=True):
        assert one.key == other.key
        assert one.video is not None and other.video is not None
        assert torch.equal(one.video, other.video)


def test_flip_mirrors_about_its_share_and_validation_never(tiny_shards: Path) -> None:
    still = module(tiny_shards, batch_size=64)
    flipped = module(tiny_shards, batch_size=64, flip=0.5)
    a, b = first(still.train_dataloader(), 1)[0], first(flipped.train_dataloader(), 1)[0]
    assert a.video is not None and b.video is not None and a.key == b.key
    mirrored = [bool(torch.equal(x.flip(-1), y)) for x, y in zip(a.video, b.video, strict=True)]
    same = [bool(torch.equal(x, y)) for x, y in zip(a.video, b.video, strict=True)]
    assert all(x or y for x, y in zip(mirrored, same, strict=True))
    assert 16 <= sum(mirrored) <= 48
    v, w = first(still.val_dataloader(), 1)[0], first(flipped.val_dataloader(), 1)[0]
    assert v.video is not None and w.video is not None and torch.equal(v.video, w.video)


def encode(video: Tensor) -> Tensor:
    return video.mean((1, 3, 4), keepdim=True)[:, :, ::8].expand(-1, 4, -1, 2, 2)


def test_the_latent_cache_is_written_once_and_read_in_order(
    tiny_shards: Path, tmp_path: Path
) -> None:
    data = module(tiny_shards, latents=str(tmp_path / "latents"), window_stride=3)
    cache = data.prepare_latents(encode, "abc")
    dataset = data.dataset("train")
    pixels = module(tiny_shards, window_stride=3).dataset("train")
    assert len(dataset) == len(pixels) == len(cache.latents)
    for row in (0, 7, len(dataset) - 1):
        video, latents = pixels[row].video, dataset[row].latents
        assert video is not None and latents is not None
        assert torch.allclose(encode(video[None])[0], latents, atol=2e-3)

    def refuse(_: Tensor) -> Tensor:
        raise AssertionError("encoded again")

    again = module(tiny_shards, latents=str(tmp_path / "latents"), window_stride=3)
    again.prepare_latents(refuse, "abc")
    with pytest.raises(AssertionError, match="encoded again"):
        again.prepare_latents(refuse, "another tokenizer")


def test_latent_statistics_equal_numpy(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(3, 2, (2500, 4, 3, 2, 2)).astype(np.float16)
    mean, std = LatentCache(values, {}).statistics()
    exact = values.astype(np.float64)
    assert np.allclose(mean.numpy(), exact.mean((0, 3, 4)), atol=1e-5)
    assert np.allclose(std.numpy(), exact.std((0, 3, 4)), atol=1e-4)


def test_missing_text_is_an_error_that_names_the_clip(
    make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shards = make_shards(tmp_path / "s", num_sources=3, text=False)
    data = module(shards, text="required")
    with pytest.raises(ValueError, match="clip clip.*has no text.npy"):
        first(data.train_dataloader(), 1)


def test_a_truncated_shard_names_the_file(make_shards: Callable[..., Path], tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", num_sources=3)
    tar = next(shards.rglob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-700])
    with pytest.raises(ValueError, match=tar.name):
        first(module(shards).train_dataloader(), 1)


def test_windows_longer_than_every_clip(tiny_shards: Path) -> None:
    with pytest.raises(ValueError, match="data.num_frames=33: longer than every clip"):
        module(tiny_shards, num_frames=33).train_dataloader()


@pytest.mark.parametrize(
    "values, words",
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"split": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"text": "maybe"}, "data.text=maybe"),
        ({"flip": 2.0}, "data.flip=2.0"),
        ({"flip": 0.5, "latents": "x"}, "latent cache"),
    ],
)
def test_bad_values_name_key_and_rule(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig(shards="x", **values)  # type: ignore[arg-type]


def test_cut_windows_covers_every_start() -> None:
    windows = cut_windows({"a": 20, "b": 16}, 17, 1)
    assert [(w.key, w.start) for w in windows] == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
