"""Images among clips for world models: their latents, their captions, and the order of steps."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.joined import JoinedLatents
from openwfm.data.latents import LatentCache
from openwfm.video import write_png


def encode(video: Tensor) -> Tensor:
    """A causal stand-in of a tokenizer: frames 0, 8, 16 at an eighth of the size."""
    return video[:, :, ::8, ::8, ::8]


def module(folder: Path, latents: Path | None, **values: object) -> ShardDataModule:
    defaults: dict[str, object] = {
        "batch_size": 3, "num_frames": 9, "kinds": ("simulated",), "text": "required",
        "text_tokens": 8, "window_stride": 4, "image_ratio": 0.5, "image_batch_size": 5, "seed": 3,
    }  # fmt: skip
    config = DataConfig(
        shards=str(folder), latents=None if latents is None else str(latents), **(defaults | values)
    )  # type: ignore[arg-type]
    return ShardDataModule(config=config)


def take(data: ShardDataModule, count: int) -> list[VideoBatch]:
    return list(itertools.islice(iter(data.train_dataloader()), count))  # type: ignore[call-overload]


@pytest.mark.parametrize("buckets", [(), ((32, 48),)], ids=["own sizes", "buckets"])
def test_latents_are_those_of_the_pixels(
    tiny_shards: Path, tmp_path: Path, buckets: tuple[tuple[int, int], ...]
) -> None:
    cached = module(tiny_shards, tmp_path / "latents", buckets=buckets)
    cached.prepare_latents(encode, "abc")
    pixels = take(module(tiny_shards, None, buckets=buckets), 16)
    lengths = set()
    for batch, real in zip(take(cached, 16), pixels, strict=True):
        assert real.video is not None and batch.latents is not None and batch.text is not None
        assert batch.key == real.key and batch.video is None
        torch.testing.assert_close(batch.latents, encode(real.video), atol=2e-3, rtol=0)
        assert batch.text.any() and batch.caption == real.caption
        assert (batch.padding_mask is None) == (not buckets)
        lengths.add((len(batch), batch.latents.shape[2]))
    assert lengths == {(3, 2), (5, 1)}

    def refuse(_: Tensor) -> Tensor:
        raise AssertionError("encoded again")

    again = module(tiny_shards, tmp_path / "latents", buckets=buckets)
    again.prepare_latents(refuse, "abc")
    changed = module(tiny_shards, tmp_path / "latents", buckets=((48, 48),))
    with pytest.raises(AssertionError, match="encoded again"):
        changed.prepare_latents(refuse, "abc")


def test_images_leave_statistics_and_clips_alone(tiny_shards: Path, tmp_path: Path) -> None:
    joint = module(tiny_shards, tmp_path / "a").prepare_latents(encode, "abc")
    plain = module(tiny_shards, tmp_path / "b", image_ratio=0.0).prepare_latents(encode, "abc")
    assert len(joint) > len(plain)
    for one, other in zip(joint.statistics(), plain.statistics(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(joint.read(3), plain.read(3))


def test_pictures_have_no_text_and_are_padded_in_buckets(tiny_shards: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "one.png", torch.full((40, 90, 3), 200, dtype=torch.uint8))
    data = module(
        tiny_shards, tmp_path / "latents", images=str(tmp_path / "in"), text="optional",
        image_ratio=0.9, image_batch_size=40, buckets=((32, 48), (32, 32)),
    )  # fmt: skip
    data.prepare_latents(encode, "abc")
    seen = 0
    for batch in take(data, 8):
        assert batch.latents is not None and batch.text is not None
        assert batch.text.shape[2] == 384 and batch.padding_mask is not None
        for i, key in enumerate(batch.key):
            if key.startswith("image:"):
                seen += 1
                assert not batch.text[i].any() and not batch.padding_mask[i].any()
                assert (batch.latents[i] - (200 / 127.5 - 1)).abs().max() < 0.02
            else:
                assert batch.text[i].any()
    assert seen
    # Another picture under the same name is another cache.
    write_png(tmp_path / "in" / "one.png", torch.full((40, 90, 3), 10, dtype=torch.uint8))
    other = module(
        tiny_shards, tmp_path / "latents", images=str(tmp_path / "in"), text="optional",
        image_ratio=0.9, image_batch_size=40, buckets=((32, 48), (32, 32)),
    )  # fmt: skip
    encoded: list[int] = []
    other.prepare_latents(lambda v: (encoded.append(len(v)), encode(v))[1], "abc")  # type: ignore[func-returns-value]
    assert sum(encoded) == 1


@pytest.mark.parametrize("first", [0, 1, 7, 23])
def test_the_order_is_a_function_of_seed_and_step(
    tiny_shards: Path, tmp_path: Path, first: int
) -> None:
    """A run that begins at step n sees what an uninterrupted one sees there, in any bucket."""
    from openwfm.data.order import BatchOrder, JointOrder

    def order(step: int, seed: int = 3) -> JointOrder:
        clips = BatchOrder(size=[7, 12], batch_size=3, seed=seed, first_step=step)
        images = BatchOrder(size=[31, 9], batch_size=5, seed=seed, first_step=step)
        return JointOrder(clips, images, ratio=0.4, first_step=step)

    whole = list(itertools.islice(iter(order(0)), 40))
    assert list(itertools.islice(iter(order(first)), 40 - first)) == whole[first:]
    assert list(itertools.islice(iter(order(0, seed=4)), 40)) != whole


def test_joined_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [
        LatentCache(random.normal(size=(n, 2, f, 2, 3)).astype(np.float16), {})
        for n, f in ((3, 2), (1, 2), (4, 1))
    ]
    joined = JoinedLatents(parts[:2], parts[2:])
    assert len(joined) == 8
    rows = [part.read(i) for part in parts for i in range(len(part))]
    assert all(torch.equal(joined.read(i), row) for i, row in enumerate(rows))
    mean, std = joined.statistics()
    clips = torch.stack(rows[:4]).double()
    torch.testing.assert_close(mean.double(), clips.mean((0, 3, 4)), rtol=0, atol=1e-6)
    torch.testing.assert_close(std.double(), clips.std((0, 3, 4), correction=0), rtol=0, atol=1e-6)
    with pytest.raises(IndexError):
        joined.read(8)
