"""Clips of several cameras: pixels, latents, text and trajectory of a batch."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.members import trajectory_bytes
from openwfm.data.shards import ShardWriter
from tests.conftest import FPS, encode_clip, moving_square

VIEWS = ("front", "left")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("views")
    writer, rows = ShardWriter(root), []
    for i in range(10):
        films = {v: moving_square(10 * i + n, num_frames=9) for n, v in enumerate(VIEWS)}
        members = {f"{view}.mp4": encode_clip(film) for view, film in films.items()}
        for n, view in enumerate(VIEWS):
            buffer = io.BytesIO()
            np.save(buffer, np.full((3 + n, 384), i + 10 * n, np.float16))
            members[f"{view}.text.npy"] = buffer.getvalue()
        path = np.zeros((64, 3))
        path[:, 0] = np.arange(1, 65) * (1 + i)
        members["trajectory.npz"] = trajectory_bytes(path)
        facts = {
            "id": f"clip{i}", "source": f"source{i}", "kind": "simulated", "fps": float(FPS),
            "width": 32, "height": 32, "num_frames": 9, "caption": f"drive {i}",
        }  # fmt: skip
        members["json"] = json.dumps(facts).encode()
        writer.add("resolution_lt_720/aspect_1_1/duration_0_5", f"clip{i}", f"source{i}", members)
        rows.append({"record": "clip", "id": f"clip{i}", "status": "kept"})
    writer.finish(pa.Table.from_pylist(rows))
    return root


def config(shards: Path) -> DataConfig:
    return DataConfig(
        shards=str(shards), num_frames=9, window_stride=9, batch_size=2, val_batch_size=1,
        text="required", text_tokens=8, views=VIEWS, truths=("trajectory",),
    )  # fmt: skip


def test_a_batch_has_views_in_order_with_their_own_text(shards: Path) -> None:
    data = ShardDataModule(config=config(shards))
    batch = next(iter(data.train_dataloader()))
    assert batch.video is not None and batch.text is not None and batch.trajectory is not None
    assert batch.video.shape == (2, 2, 3, 9, 32, 32) and batch.text.shape == (2, 2, 8, 384)
    for row, key in enumerate(batch.key):
        i = int(key.removeprefix("clip"))
        for view in range(2):
            film = moving_square(10 * i + view, num_frames=9)
            seen = (batch.video[row, view].permute(1, 2, 3, 0).numpy() + 1) * 127.5
            assert np.abs(seen - film).mean() < 12  # coded, but this one and no other
            assert batch.text[row, view, 0, 0] == i + 10 * view
            assert int((batch.text[row, view, :, 0] != 0).sum()) in (0, 3 + view)
        assert torch.allclose(batch.trajectory[row, 9, 0], torch.tensor(10.0 * (1 + i)))
    swapped = ShardDataModule(config=replace(config(shards), views=VIEWS[::-1]))
    dataset = swapped.dataset("train")
    row = [window.key for window in dataset.windows].index(batch.key[0])
    other = dataset[row].video
    assert other is not None and torch.equal(other, batch.video[0].flip(0))
    assert data.export_config()["views"] == list(VIEWS)
    assert data.export_config()["size"] == [32, 32]


def test_latents_are_made_of_all_views(shards: Path, tmp_path: Path) -> None:
    data = ShardDataModule(config=replace(config(shards), latents=str(tmp_path / "latents")))

    def encode(video: torch.Tensor) -> torch.Tensor:
        assert video.shape[1:] == (2, 3, 9, 32, 32)
        means = video.mean((2, 4, 5))[:, None]  # b 1 v t
        return means[..., ::4].flatten(2)[..., None, None].expand(-1, 4, -1, 2, 2)

    cache = data.prepare_latents(encode, "tokenizer")
    batch = next(iter(data.train_dataloader()))
    assert batch.latents is not None and batch.latents.shape == (2, 4, 6, 2, 2)
    assert len(cache) == len(data.windows("train"))


def test_views_that_are_not_there_and_windows_without_a_trajectory(shards: Path) -> None:
    missing = ShardDataModule(config=replace(config(shards), views=("front", "rear")))
    with pytest.raises(ValueError, match="has no view rear"):
        next(iter(missing.val_dataloader()))
    late = ShardDataModule(config=replace(config(shards), num_frames=5, window_stride=4))
    with pytest.raises(ValueError, match="trajectory starts at frame 0"):
        late.dataset("train")[1]
    for views in (("front",), ("front", "front")):
        with pytest.raises(ValueError, match=r"data\.views"):
            replace(config(shards), views=views)
    with pytest.raises(ValueError, match=r"data\.flip=0"):
        replace(config(shards), flip=0.5, truths=())
