"""Batches of one size out of clips of several, and steps of images among steps of clips."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.data.batch import VideoBatch
from openwfm.data.buckets import nearest_size
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.order import BatchOrder, JointOrder, equal_batches
from openwfm.data.shards import ShardWriter, bucket
from openwfm.video import write_png

SIZES = ((16, 32), (32, 16), (32, 32))  # rows, columns


def clip_bytes(frames: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def mixed_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 12 frames in three sizes; a clip is one grey, as bright as its number."""
    root = tmp_path_factory.mktemp("mixed")
    writer = ShardWriter(root)
    rows = []
    for i in range(24):
        size = SIZES[(i * 7) % 3 if i % 4 else 0]  # half of the clips are wide
        frames = np.full((12, *size, 3), 10 * i, np.uint8)
        key = f"clip{i:02d}"
        facts = {"id": key, "source": f"source{i:02d}", "kind": "natural", "fps": 24.0}
        members = {"mp4": clip_bytes(frames), "json": json.dumps(facts).encode()}
        writer.add(bucket(size[1], size[0], 0.5), key, facts["source"], members)
        rows.append({"record": "clip", "id": key, "status": "kept"})
    writer.finish(pa.Table.from_pylist(rows))
    return root


def module(shards: Path, **values: object) -> ShardDataModule:
    defaults: dict[str, object] = {"batch_size": 2, "num_frames": 9, "kinds": ("natural",)}
    return ShardDataModule(config=DataConfig(shards=str(shards), **(defaults | values)))  # type: ignore[arg-type]


def take(data: ShardDataModule, count: int) -> list[VideoBatch]:
    return list(itertools.islice(iter(data.train_dataloader()), count))  # type: ignore[call-overload]


def shape(batch: VideoBatch) -> tuple[int, ...]:
    assert batch.video is not None
    return tuple(batch.video.shape)


def test_every_batch_is_of_one_size_and_every_clip_comes(mixed_shards: Path) -> None:
    data = module(mixed_shards)
    frames = data.frames("train")
    steps = sum(-(-len(data.windows("train")) // 2) for _ in range(3))
    seen, sizes = Counter[str](), Counter[tuple[int, ...]]()
    for batch in take(data, steps):
        assert batch.video is not None
        assert {frames.size(key) for key in batch.key} == {tuple(batch.video.shape[-2:])}
        for key, video in zip(batch.key, batch.video, strict=True):
            wanted = int(key.removeprefix("clip")) * 10 / 127.5 - 1
            assert (video - wanted).abs().max() < 0.03, key
        seen.update(batch.key)
        sizes[tuple(batch.video.shape[-2:])] += 1
    assert set(seen) == set(data.keys("train"))
    assert set(sizes) == set(frames.sizes)


def test_held_out_clips_come_once_each(mixed_shards: Path) -> None:
    data = module(mixed_shards, val_batch_size=3, split=(0.4, 0.4, 0.2))
    keys = [key for batch in data.val_dataloader() for key in batch.key]
    assert sorted(keys) == data.keys("val")


def test_weights_say_the_sizes_they_were_trained_on(mixed_shards: Path, tiny_shards: Path) -> None:
    config = module(mixed_shards, image_ratio=0.25).export_config()
    assert sorted(map(tuple, config["sizes"])) == sorted(SIZES)
    assert config["size"] == config["sizes"][0]
    assert config["image_ratio"] == 0.25
    plain = module(tiny_shards, kinds=("simulated",)).export_config()
    assert plain["size"] == [32, 32]
    assert "sizes" not in plain and "image_ratio" not in plain


def test_latents_of_several_sizes(mixed_shards: Path, tmp_path: Path) -> None:
    """A row has the latents of its window, whatever its size."""
    data = module(mixed_shards, latents=str(tmp_path / "latents"))
    data.prepare_latents(lambda video: video[:, :, ::8, ::2, ::2], "x")
    latents, pixels = data.dataset("train"), module(mixed_shards).dataset("train")
    assert len(latents) == len(pixels)
    for row in range(len(pixels)):
        video, found = pixels[row].video, latents[row].latents
        assert video is not None and found is not None
        torch.testing.assert_close(found, video[:, ::8, ::2, ::2], atol=1e-3, rtol=0)


def test_images_are_frames_of_clips(mixed_shards: Path) -> None:
    data = module(mixed_shards, image_ratio=0.5, image_batch_size=3)
    shapes = Counter(shape(batch)[:3:2] for batch in take(data, 20))
    assert shapes == {(2, 9): 10, (3, 1): 10}


def test_images_leave_the_order_of_clips_alone(tiny_shards: Path) -> None:
    clips = [b for b in take(module(tiny_shards, kinds=("simulated",), flip=0.5), 6)]
    joint = take(module(tiny_shards, kinds=("simulated",), flip=0.5, image_ratio=0.4), 10)
    apart = [batch for batch in joint if shape(batch)[2] > 1]
    assert len(apart) == 6
    for one, other in zip(clips, apart, strict=True):
        assert one.video is not None and other.video is not None
        assert one.key == other.key and torch.equal(one.video, other.video)


def test_a_folder_of_pictures_joins(mixed_shards: Path, tmp_path: Path) -> None:
    sizes = {"wide": (40, 90), "tall": (64, 30), "square": (50, 51)}
    for i, (name, size) in enumerate(sizes.items()):
        write_png(
            tmp_path / "in" / f"{name}.png", torch.full((*size, 3), 60 * i, dtype=torch.uint8)
        )
    data = module(
        mixed_shards, image_ratio=0.9, image_batch_size=4, images=str(tmp_path), window_stride=4
    )
    pictures = data.pictures()
    assert pictures is not None
    found = {key: pictures.size(key) for key in pictures.spans}
    wanted = ((16, 32), (32, 16), (32, 32))
    assert found == dict(zip([f"image:in/{n}.png" for n in sizes], wanted, strict=True))
    seen: set[str] = set()
    for batch in take(data, 60):
        assert batch.video is not None
        seen.update(batch.key)
        for key, video in zip(batch.key, batch.video, strict=True):
            if key.startswith("image:"):
                level = [f"image:in/{n}.png" for n in sizes].index(key) * 60
                assert (video - (level / 127.5 - 1)).abs().max() < 0.01
    assert set(found) <= seen
    again = module(mixed_shards, image_ratio=0.9, images=str(tmp_path)).pictures()
    assert again is not None and again.spans == pictures.spans


def test_a_folder_without_pictures_is_refused(mixed_shards: Path, tmp_path: Path) -> None:
    data = module(mixed_shards, image_ratio=0.5, images=str(tmp_path))
    with pytest.raises(ValueError, match=r"data\.images=.*no pictures"):
        data.train_dataloader()


@pytest.mark.parametrize(
    "values, words",
    [
        ({"image_ratio": 1.0}, r"data\.image_ratio=1\.0: must be a share in \[0, 1\)"),
        ({"image_ratio": float("nan")}, "data.image_ratio=nan"),
        ({"image_batch_size": 0}, "data.image_batch_size=0: must be at least 1"),
        ({"images": "x"}, r"data\.images=x: needs data\.image_ratio above 0"),
        (
            {"image_ratio": 0.1, "images": "x", "text": "required"},
            "must be none or optional with data.images",
        ),
    ],
)
def test_bad_values(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig(shards="x", **values)  # type: ignore[arg-type]


buckets = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(sizes=buckets, batch=st.integers(1, 7), step=st.integers(0, 200), seed=st.integers(0, 99))
def test_a_batch_is_of_one_bucket_and_resumes(
    sizes: list[int], batch: int, step: int, seed: int
) -> None:
    whole = BatchOrder(size=sizes, batch_size=batch, seed=seed)
    edges = np.cumsum([0, *sizes])
    for indices in (whole.batch(step), whole.batch(step + 1)):
        owners = {int(np.searchsorted(edges, i, side="right")) for i, _ in indices}
        assert len(owners) == 1
        assert min(indices)[0] >= 0 and max(indices)[0] < sum(sizes)
    resumed = BatchOrder(size=sizes, batch_size=batch, seed=seed, first_step=step)
    assert next(iter(resumed)) == whole.batch(step)


@settings(max_examples=25, deadline=None)
@given(sizes=buckets, ranks=st.sampled_from([2, 4]), step=st.integers(0, 60))
def test_processes_share_a_bucket_and_its_batch(sizes: list[int], ranks: int, step: int) -> None:
    whole = BatchOrder(size=sizes, batch_size=8, seed=1).batch(step)
    parts = [
        BatchOrder(size=sizes, batch_size=8 // ranks, seed=1, rank=r, num_ranks=ranks).batch(step)
        for r in range(ranks)
    ]
    assert list(itertools.chain(*parts)) == whole


def test_buckets_take_turns_in_proportion_and_visit_every_sample() -> None:
    order = BatchOrder(size=[40, 10, 20], batch_size=2, seed=0)
    seen = Counter(index for step in range(35) for index, _ in order.batch(step))
    assert seen == dict.fromkeys(range(70), 1)
    turns = [order.batch(step)[0][0] < 40 for step in range(35)]
    assert sum(turns) == 20 and True in turns[-15:] and False in turns[:20]


@settings(max_examples=60, deadline=None)
@given(ratio=st.floats(0.01, 0.99), seed=st.integers(0, 50), first=st.integers(0, 3000))
def test_the_share_of_image_steps_holds_in_every_stretch(
    ratio: float, seed: int, first: int
) -> None:
    def order(first_step: int) -> JointOrder:
        clips = BatchOrder(size=50, batch_size=2, seed=seed, first_step=first_step)
        images = BatchOrder(size=9, batch_size=3, seed=seed)
        return JointOrder(clips, images, ratio=ratio, first_step=first_step)

    whole = order(0)
    batches = [whole.batch(step) for step in range(first, first + 40)]
    assert list(itertools.islice(order(first), 40)) == batches
    of_images = [min(batch)[0] >= 50 for batch in batches]
    for length in (1, 7, 40):
        assert abs(sum(of_images[:length]) - ratio * length) < 1
    assert all(
        len(batch) == (3 if image else 2) for batch, image in zip(batches, of_images, strict=True)
    )
    # Each kind goes on where it stopped: no sample is skipped or comes twice in a round of 9.
    pictures = [index for batch in batches for index, _ in batch if index >= 50]
    start = whole.image_steps(first) * 3 % 9
    skip = -start % 9
    for at in range(skip, len(pictures) - 8, 9):
        assert sorted(pictures[at : at + 9]) == list(range(50, 59))


@given(sizes=st.lists(st.sampled_from(SIZES), max_size=30), batch=st.integers(1, 5))
def test_equal_batches_keep_order_and_lose_nothing(
    sizes: list[tuple[int, int]], batch: int
) -> None:
    batches = equal_batches(sizes, batch)
    assert list(itertools.chain(*batches)) == list(range(len(sizes)))
    assert all(len({sizes[row] for row in rows}) == 1 and len(rows) <= batch for rows in batches)


@pytest.mark.parametrize(
    "size, nearest", [((1, 9), (16, 32)), ((9, 1), (32, 16)), ((10, 11), (32, 32))]
)
def test_nearest_aspect(size: tuple[int, int], nearest: tuple[int, int]) -> None:
    assert nearest_size(size, SIZES) == nearest
