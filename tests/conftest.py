"""Shared fixtures: a tiny set of shards, and a quiet, single-threaded torch."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("WANDB_MODE", "offline")

import av
import numpy as np
import pyarrow as pa
import pytest

from openwfm.data.shards import ShardWriter

SIZE, NUM_FRAMES, FPS = 32, 25, 24


def encode_clip(frames: np.ndarray, fps: int = FPS) -> bytes:
    """uint8 ``t h w c`` → the bytes of an mp4."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def moving_square(seed: int, size: int = SIZE, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """A bright square that moves at a constant speed over a plain ground, uint8 ``t h w c``."""
    rng = np.random.default_rng(seed)
    ground, colour = rng.integers(30, 120, 3), rng.integers(150, 255, 3)
    video = np.empty((num_frames, size, size, 3), np.uint8)
    position, speed = rng.uniform(2, size / 2, 2), rng.uniform(-0.6, 0.6, 2)
    for frame in video:
        frame[:] = ground
        row, column = (int(value) % (size - 8) for value in position)
        frame[row : row + 8, column : column + 8] = colour
        position = position + speed
    return video


def write_shards(root: Path, *, num_sources: int = 8, text: bool = True) -> Path:
    writer = ShardWriter(root)
    rows = []
    for source in range(num_sources):
        for shot in range(2):
            key = f"clip{source:02d}x{shot}"
            facts = {
                "id": key,
                "source": f"source{source:02d}",
                "kind": "simulated",
                "fps": float(FPS),
                **{"width": SIZE, "height": SIZE, "num_frames": NUM_FRAMES},
                "caption": f"A square moves, take {source}.",
                "text_encoder": "minilm-l6-v2",
            }
            members = {
                "mp4": encode_clip(moving_square(source * 10 + shot)),
                "json": json.dumps(facts).encode(),
            }
            if text:
                buffer = io.BytesIO()
                tokens = np.random.default_rng(source).standard_normal((5 + source % 3, 384))
                np.save(buffer, tokens.astype(np.float16))
                members["text.npy"] = buffer.getvalue()
            writer.add("resolution_lt_720/aspect_1_1/duration_0_5", key, facts["source"], members)
            rows.append({"record": "clip", "id": key, "status": "kept"})
    writer.finish(pa.Table.from_pylist(rows))
    return root


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen clips of eight sources, 25 frames of 32x32, with captions and token embeddings."""
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def make_shards() -> Callable[..., Path]:
    """``make_shards(root, num_sources=…, text=…)`` writes such a folder."""
    return write_shards


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
