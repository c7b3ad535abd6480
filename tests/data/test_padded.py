"""Clips in buckets: nothing is cut off, the mask tells the truth, batches are of one bucket."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.data.buckets import inner_size, into_bucket, margins, nearest_size, padding_mask
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule

sides = st.integers(1, 40)
sizes = st.tuples(sides, sides)


@settings(max_examples=200, deadline=None)
@given(sizes, sizes)
def test_a_picture_fills_its_bucket_as_far_as_its_shape_allows(
    size: tuple[int, int], bucket: tuple[int, int]
) -> None:
    inner, (left, right, top, bottom) = inner_size(size, bucket), margins(size, bucket)
    assert (inner[0] + top + bottom, inner[1] + left + right) == bucket
    assert min(left, right, top, bottom) >= 0
    assert inner[0] == bucket[0] or inner[1] == bucket[1]
    assert abs(left - right) <= 1 and abs(top - bottom) <= 1
    scale = min(bucket[0] / size[0], bucket[1] / size[1])
    assert all(abs(i - max(1, s * scale)) <= 0.5 for i, s in zip(inner, size, strict=True))
    mask = padding_mask(size, bucket)
    assert mask.shape == (1, *bucket) and int((mask == 0).sum()) == inner[0] * inner[1]
    assert not mask[0, top : top + inner[0], left : left + inner[1]].any()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 30), st.integers(0, 2**32 - 1)
)
def test_reflection_against_numpy(size: tuple[int, int], more: int, seed: int) -> None:
    """A picture that is not scaled: the same as ``np.pad``, over any number of reflections."""
    video = np.random.default_rng(seed).integers(0, 256, (2, *size, 3), np.uint8)
    for bucket in ((size[0], size[1] + more), (size[0] + more, size[1])):
        left, right, top, bottom = margins(size, bucket)
        pad = ((0, 0), (top, bottom), (left, right), (0, 0))
        wanted = np.pad(video, pad, mode="reflect")
        np.testing.assert_array_equal(into_bucket(video, bucket), wanted)


def test_the_longest_side_decides() -> None:
    video = np.zeros((1, 20, 40, 3), np.uint8)
    video[:, :, :2], video[:, :, -2:] = 255, 255  # both ends must survive
    found = into_bucket(video, (20, 20))
    assert found.shape == (1, 20, 20, 3)
    assert (found[0, 5:15, 0] == 255).all() and (found[0, 5:15, -1] == 255).all()
    assert margins((20, 40), (20, 20)) == (0, 0, 5, 5)
    np.testing.assert_array_equal(into_bucket(found, (20, 20)), found)


def shards(make: object, root: Path) -> Path:
    return make(root, num_sources=5)  # type: ignore[operator,no-any-return]


def module(folder: Path, **values: object) -> ShardDataModule:
    defaults: dict[str, object] = {
        "batch_size": 3, "num_frames": 9, "kinds": ("simulated",), "text": "required",
        "buckets": ((32, 48), (48, 32)),
    }  # fmt: skip
    return ShardDataModule(config=DataConfig(shards=str(folder), **(defaults | values)))  # type: ignore[arg-type]


def test_batches_are_of_one_bucket_with_a_mask(tiny_shards: Path) -> None:
    data = module(tiny_shards)
    assert data.frames("train").sizes == {(32, 48): len(data.keys("train"))}
    assert data.export_config()["size"] == [32, 48]
    plain = module(tiny_shards, buckets=())
    loaders = [itertools.islice(iter(d.train_dataloader()), 4) for d in (data, plain)]  # type: ignore[call-overload]
    for padded, own in zip(*loaders, strict=True):
        assert padded.key == own.key and own.padding_mask is None
        assert padded.video.shape == (3, 3, 9, 32, 48) and padded.padding_mask.shape == (
            3,
            1,
            32,
            48,
        )
        assert torch.equal(padded.video[..., 8:40], own.video)
        assert padded.padding_mask[..., :8].all() and padded.padding_mask[..., 40:].all()
        assert not padded.padding_mask[..., 8:40].any()
    held_out = next(iter(data.val_dataloader()))
    assert held_out.padding_mask.shape == (len(held_out), 1, 32, 48)


@pytest.mark.parametrize(
    "buckets", [((32, 48), (32, 48)), ((32,),), ((0, 4),), ((32, 48.5),), ((32, -1),)]
)
def test_bad_buckets(buckets: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"data\.buckets=.*must be different pairs"):
        DataConfig(shards="x", buckets=buckets)  # type: ignore[arg-type]


def test_yaml_lists_are_taken() -> None:
    assert DataConfig(shards="x", buckets=[[32, 48]]).buckets == ((32, 48),)  # type: ignore[arg-type,list-item]
    assert nearest_size((33, 50), ((48, 32), (32, 48))) == (32, 48)
