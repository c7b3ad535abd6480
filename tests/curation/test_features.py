"""The clip's vector: closed forms of its parts, determinism, and that its cosine says something."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from curation_videos import scene, write_video

from openwfm.benchmarks.footage import drawn
from openwfm.config import config_folder
from openwfm.curation.features import (
    EfficientNetConfig,
    EfficientNetEncoder,
    EmbedClip,
    cells,
    join,
    motion_field,
    signature,
    unit,
)
from openwfm.curation.look import Look
from openwfm.curation.record import Clip, Media
from openwfm.curation.watch import look_of, look_of_file


@pytest.fixture(scope="module")
def encoder() -> EfficientNetEncoder:
    return EfficientNetEncoder(EfficientNetConfig(num_stills=2))


def look(seed: int, frames: int = 12) -> Look:
    return look_of(scene(frames, seed=seed), frames, 24.0)


def clip_of(seen: Look) -> Clip:
    return Clip(
        source="s", path="p.mp4", start_frame=0, end_frame=9, start_seconds=0.0, end_seconds=0.5,
        scores={"kept": 1.0}, media=Media(video=b"", look=seen),
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_the_cosine_is_the_weighed_mean_of_the_parts(share: float) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        a, b = random.standard_normal((2, 7))
        m, n = random.uniform(-1, 1, (2, 5))
        m_in, n_in = m / math.sqrt(5), n / math.sqrt(5)
        appearance = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        motion = m_in @ n_in + math.sqrt(1 - m_in @ m_in) * math.sqrt(1 - n_in @ n_in)
        x, y = join(a, m, share), join(b, n, share)
        assert np.linalg.norm(x) == pytest.approx(1, abs=1e-6)
        assert x @ y == pytest.approx((1 - share) * appearance + share * motion, abs=1e-5)


def test_clips_without_motion_agree_in_it_whatever_they_show() -> None:
    a, b = np.eye(4)[:2]
    still = np.zeros(48)
    assert join(a, still, 0.3) @ join(b, still, 0.3) == pytest.approx(0.3, abs=1e-6)
    assert unit(np.zeros(3)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("shape, side", [((8, 8), 4), ((17, 9), 4), ((64, 113), 8), ((4, 5), 4)])
def test_cells_are_the_means_of_a_grid(shape: tuple[int, int], side: int) -> None:
    picture = np.random.default_rng(1).random((*shape, 2))
    found = cells(picture, side)
    rows = [i * shape[0] // side for i in range(side + 1)]
    columns = [i * shape[1] // side for i in range(side + 1)]
    for r in range(side):
        for c in range(side):
            block = picture[rows[r] : rows[r + 1], columns[c] : columns[c + 1]]
            np.testing.assert_allclose(found[r, c], block.mean(axis=(0, 1)), rtol=1e-9)


def test_motion_points_where_the_picture_moves(encoder: EfficientNetEncoder) -> None:
    texture = np.random.default_rng(3).integers(0, 255, (24, 60, 1)).astype(np.uint8)
    wide = np.repeat(np.kron(texture, np.ones((8, 8, 1), np.uint8)), 3, axis=2)
    moving = np.stack([wide[:, 2 * t : 2 * t + 240] for t in range(24)])  # the picture goes left
    field = motion_field(encoder.cv2, look_of(moving, 24, 24.0)).reshape(4, 4, 3)
    assert (field[..., 0] < -0.2).all() and np.abs(field[..., 1]).max() < 0.1
    speed = 2 * 24 / math.hypot(192, 240)
    assert np.median(field[..., 2]) == pytest.approx(speed / (speed + 0.1), abs=0.1)
    still = motion_field(encoder.cv2, look_of(moving[:1].repeat(24, axis=0), 24, 24.0))
    assert np.abs(still).max() < 1e-3
    single = motion_field(encoder.cv2, look_of(moving[:1], 1, 24.0))
    assert single.shape == (48,) and not single.any()


def test_a_brighter_copy_is_nearer_than_another_film(encoder: EfficientNetEncoder) -> None:
    frames = scene(12, seed=1)
    brighter = np.clip(frames * 1.2 + 15, 0, 255).astype(np.uint8)
    drawing = list(drawn(2, seed=0))[1]
    chart = look_of(drawing.frames, len(drawing.frames), drawing.fps)
    original, copy, other = (
        encoder.embed(seen) for seen in (look(1), look_of(brighter, 12, 24.0), chart)
    )
    assert original.dtype == np.float32 and original.shape == (encoder.width,) == (256,)
    assert np.linalg.norm(original) == pytest.approx(1, abs=1e-6)
    assert original @ copy > 0.85 > original @ other + 0.1


CODE = """
import sys, hashlib, torch
sys.path.insert(0, {folder!r})
from test_features import look, clip_of
from openwfm.curation.features import EfficientNetConfig, EmbedClip
torch.set_num_threads(1)
stage = EmbedClip(EfficientNetConfig(num_stills=2))
stage.setup()
media = stage.process(clip_of(look(1)))[0].media
print(hashlib.sha256(media.embedding.tobytes()).hexdigest())
"""


def test_the_stage_gives_the_same_bytes_in_any_process() -> None:
    stage = EmbedClip(EfficientNetConfig(num_stills=2))
    stage.setup()
    seen = look(1)
    (clip,) = stage.process(clip_of(seen))
    assert isinstance(clip, Clip) and clip.media is not None
    media = clip.media
    assert media.embedding is not None
    assert clip.scores == {"kept": 1.0} and clip.evidence["embed"]["width"] == 256
    json.dumps(clip.evidence)
    digest = hashlib.sha256(media.embedding.tobytes()).hexdigest()
    code = CODE.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest
    # What the content stage made with the same encoder is taken over, of another it is not.
    marked = np.full(256, 1 / 16, np.float32)
    for name, kept in (("efficientnet-lite0", True), ("clip:x", False)):
        given = replace(
            clip, media=replace(media, embedding=marked), evidence={"content": {"encoder": name}}
        )
        (again,) = stage.process(given)
        assert isinstance(again, Clip) and again.media is not None
        assert np.array_equal(again.media.embedding, marked) is kept


def test_signatures_are_means_of_the_thumbnails() -> None:
    thumbs = np.random.default_rng(0).integers(0, 255, (3, 64, 96)).astype(np.uint8)
    found = signature(thumbs)
    assert found.shape == (3, 64)
    assert abs(int(found[1, 9]) - thumbs[1, 8:16, 12:24].mean()) <= 0.5


def test_a_file_and_its_frames_look_alike(tmp_path: Path) -> None:
    frames = scene(48, seed=0)
    path = write_video(tmp_path / "a.mp4", frames, crf=1)
    from_file, from_frames = look_of_file(path), look_of(frames, 48, 24.0)
    assert from_file.thumbs.shape == from_frames.thumbs.shape
    assert np.abs(from_file.thumbs.astype(int) - from_frames.thumbs).mean() < 2
    assert len(look_of_file(path, max_seconds=1.0).thumbs) == 24
    with pytest.raises(ValueError, match="no such file"):
        look_of_file(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="no frame"):
        look_of(iter(()), 3, 24.0)
    with pytest.raises(ValueError, match="announced"):
        look_of(frames[:2], 30, 24.0)


@pytest.mark.parametrize(
    "change, words",
    [({"num_stills": 0}, "encoder.num_stills=0"), ({"motion": 1.0}, r"encoder.motion=1.0")],
)
def test_bad_values_are_named(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EfficientNetConfig(**change)


def test_yaml_is_the_defaults() -> None:
    values = yaml.safe_load((config_folder() / "curation/encoder/efficientnet.yaml").read_text())
    assert values.pop("_target_") == "openwfm.curation.features.EfficientNetConfig"
    assert EfficientNetConfig(**values) == EfficientNetConfig()
    assert set(values) == set(EfficientNetConfig.__dataclass_fields__)
