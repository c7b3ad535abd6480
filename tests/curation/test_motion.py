"""The stage on pictures and clips whose motion is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openwfm.benchmarks.camera_shots import (
    CLASSES,
    FPS,
    NUM_FRAMES,
    Shot,
    draw_motion,
    warped_shots,
)
from openwfm.benchmarks.camera_tags import accuracy, clip_of, measure_shots, separation
from openwfm.curation.camera_tags import TAGS
from openwfm.curation.fields import FieldReader
from openwfm.curation.look import Look
from openwfm.curation.motion import MeasureMotion, measure, vector_scores
from openwfm.curation.record import Clip, Media
from openwfm.curation.vectors import CELL, average_vectors, predicted_frames

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def reader() -> FieldReader:
    return FieldReader()


def texture(seed: int = 0, size: int = 512) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return (smooth - smooth.min()) / np.ptp(smooth) * 255


def look_of(pairs: list[np.ndarray], gap: float = 1 / 12) -> Look:
    stacked = np.rint(np.stack(pairs)).clip(0, 255).astype(np.uint8)
    count = len(stacked)
    return Look(
        fps=24.0,
        stills=np.zeros((1, 8, 8, 3), np.uint8),
        still_times=np.zeros(1),
        pairs=stacked,
        pair_times=np.arange(count) / 4.0,
        gaps=np.full(count, gap),
        thumbs=np.zeros((count * 6, 64, 64), np.uint8),
    )


def seen(x: float, y: float, scale: float, degrees: float, size: tuple[int, int]) -> np.ndarray:
    """The texture after its content moved by x, y pixels, grew and turned about the middle."""
    height, width = size
    factor = scale * np.exp(1j * np.radians(degrees))
    middle = complex((width - 1) / 2, (height - 1) / 2)
    shift = middle + x + 1j * y - factor * (255.5 + 255.5j)
    matrix = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    return cv2.warpAffine(texture(), np.array(matrix), (width, height), flags=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [(128, 228), (228, 128), (128, 128), (130, 171)])
@pytest.mark.parametrize(
    "x, y, scale, degrees",
    [(3.0, -1.5, 1.0, 0.0), (0, 0, 1.02, 0.0), (0, 0, 0.98, 1.5), (-6, 4, 1.01, -1), (0, 0, 1, 0)],
)
def test_rates_are_those_of_the_warp(reader, size, x, y, scale, degrees) -> None:
    pair = np.stack([seen(0, 0, 1, 0, size), seen(x, y, scale, degrees, size)])
    motion = measure(reader.flow(look_of([pair] * 3)))
    diagonal, scores = float(np.hypot(*size)), motion.scores
    assert scores["camera_x"] == pytest.approx(12 * x / diagonal, abs=0.004)
    assert scores["camera_y"] == pytest.approx(12 * y / diagonal, abs=0.004)
    assert scores["camera_zoom"] == pytest.approx(12 * np.log(scale), abs=0.01)
    assert scores["camera_roll"] == pytest.approx(12 * degrees, abs=0.6)
    assert scores["camera_inliers"] > 0.97 and scores["object_motion"] < 0.02
    assert scores["parallax"] < 0.05


def test_faster_by_half_the_gap(reader) -> None:
    pair = np.stack([seen(0, 0, 1, 0, (128, 160)), seen(2, 1, 1.01, 0.5, (128, 160))])
    slow = measure(reader.flow(look_of([pair] * 4, gap=0.1))).scores
    fast = measure(reader.flow(look_of([pair] * 4, gap=0.05))).scores
    for name in ("camera_x", "camera_y", "camera_zoom", "camera_roll", "flow_mean", "flow_p95"):
        assert fast[name] == pytest.approx(2 * slow[name], rel=1e-9), name
    for name in ("camera_inliers", "object_motion", "parallax"):
        assert fast[name] == pytest.approx(slow[name], abs=1e-9), name


@pytest.mark.parametrize("pan", [0.0, 3.0])
def test_an_object_does_not_move_the_camera(reader, pan) -> None:
    first, second = seen(0, 0, 1, 0, (128, 200)), seen(pan, 0, 1, 0, (128, 200))
    thing = texture(5)[:60, :80]
    first[30:90, 60:140], second[35:95, 60:140] = thing, thing
    motion = measure(reader.flow(look_of([np.stack([first, second])] * 3)))
    assert motion.tags == (("pan_left",) if pan else ("static_camera",))
    assert motion.scores["camera_x"] == pytest.approx(12 * pan / np.hypot(128, 200), abs=0.005)
    share = 60 * 80 / (128 * 200)
    assert motion.scores["object_motion"] == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_flat_picture_says_nothing(reader, level) -> None:
    motion = measure(reader.flow(look_of([np.full((2, 128, 170), level)] * 4)))
    assert motion.tags == () and motion.rows == []
    assert motion.scores["camera_inliers"] == 0 and motion.scores["object_motion"] == 0


def test_no_pairs_at_all(reader) -> None:
    look = replace(look_of([np.zeros((2, 128, 170))]), pairs=np.zeros((0, 2, 128, 170), np.uint8),
                   pair_times=np.zeros(0), gaps=np.zeros(0))  # fmt: skip
    motion = measure(reader.flow(look))
    assert motion.tags == () and set(motion.scores.values()) == {0.0}
    assert vector_scores([]) == {"vector_mean": 0.0, "vector_least": 0.0}


@pytest.mark.parametrize("size", [(128, 128), (128, 1400), (700, 129)])
def test_pure_noise_is_finite(reader, size) -> None:
    pair = np.random.default_rng(0).uniform(0, 255, (2, *size))
    motion = measure(reader.flow(look_of([pair] * 3)))
    assert np.isfinite(list(motion.scores.values())).all()
    assert motion.tags and set(motion.tags) <= set(TAGS)
    assert 0 <= motion.scores["camera_inliers"] <= 1


def record(look: Look, video: bytes = b"") -> Clip:
    return Clip(
        source="s", path="p", start_frame=0, end_frame=9, start_seconds=0.0, end_seconds=1.0,
        scores={"kept": 1.0}, tags=("kept",), evidence={"other": 1},
        media=Media(video=video, look=look),
    )  # fmt: skip


def test_stage_adds_plain_numbers_and_is_deterministic() -> None:
    rng = np.random.default_rng(0)
    pairs = [
        np.stack([seen(0, 0, 1, 0, (128, 228)), seen(*rng.normal(0, 2, 2), 1.0, 0.0, (128, 228))])
        for _ in range(6)
    ]
    made = []
    for _ in range(2):
        stage = MeasureMotion()
        stage.setup()
        made.append(stage.process(record(look_of(pairs)))[0])
    assert isinstance(made[0], Clip) and isinstance(made[1], Clip)
    assert made[0].scores["kept"] == 1 and made[0].tags[0] == "kept"
    assert made[0].evidence["other"] == 1
    texts = [json.dumps([m.scores, m.tags, m.evidence], allow_nan=False) for m in made]
    assert texts[0] == texts[1] and len(texts[0]) < 4000
    assert all(value == round(value, 6) for value in made[0].scores.values())
    evidence: Any = made[0].evidence["motion"]
    assert len(evidence["pairs"]) == 6 and len(evidence["pairs"][0]) == len(evidence["columns"])


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match=r"motion\.source=sift: must be one of flow, vectors"):
        MeasureMotion("sift")


def blocks(rows: list[tuple[int, int, int, int, int, int, int, int]]) -> np.ndarray:
    """source, w, h, dst_x, dst_y, motion_x, motion_y, scale."""
    names = ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")
    return np.array(rows, dtype=[(name, np.int32) for name in names])


def test_vectors_are_averaged_by_area() -> None:
    found, covered = average_vectors(
        blocks(
            [
                (-1, 16, 8, 8, 4, -8, 0, 4),  # the upper half of cell 0 moves 2 right
                (-1, 8, 8, 4, 12, 0, -16, 4),  # a quarter moves 4 down; the last is intra
                (-1, 16, 16, 24, 8, 4, 4, 4),  # cell 1 moves 1 left, 1 up
                (1, 16, 16, 40, 8, 40, 40, 4),  # of the future: not counted
                (-1, 16, 16, 8, 24, 4, 0, 4),  # below the last whole cell
            ]
        ),
        height=24,
        width=48,
    )
    assert found.shape == (24 // CELL, 48 // CELL)
    np.testing.assert_allclose(found[0], [(2 * 2 + 4j) / 3, -1 - 1j, 0])
    np.testing.assert_allclose(covered[0], [0.75, 1, 0])


def test_vectors_agree_with_painting_pixels() -> None:
    """An independent implementation: paint each block's pixels, then take means of cells."""
    rng = np.random.default_rng(0)
    height, width, rows = 80, 112, []
    for top in range(0, height, 16):
        for left in range(0, width, 16):
            h, w = rng.choice([8, 16], 2)
            for y, x in np.ndindex(16 // h, 16 // w):
                if rng.random() < 0.8:
                    middle = left + x * w + w // 2, top + y * h + h // 2
                    rows.append((-1, w, h, *middle, *rng.integers(-40, 40, 2), 4))
    total, count = np.zeros((height, width), complex), np.zeros((height, width))
    for _, w, h, x, y, dx, dy, scale in rows:
        area = slice(y - h // 2, y + h // 2), slice(x - w // 2, x + w // 2)
        total[area] -= (dx + 1j * dy) / scale
        count[area] += 1
    shape = (height // CELL, CELL, width // CELL, CELL)
    counts = count.reshape(shape).sum(axis=(1, 3))
    found, covered = average_vectors(blocks(rows), height, width)
    sums = total.reshape(shape).sum(axis=(1, 3))
    np.testing.assert_allclose(found, sums / np.maximum(counts, 1), atol=1e-12)
    np.testing.assert_allclose(covered, counts / CELL**2)


def test_vectors_of_an_encoded_pan_have_its_speed(reader) -> None:
    big = np.repeat(texture()[..., None], 3, axis=-1).astype(np.uint8)
    frames = np.stack([big[100:292, 20 + 2 * i : 212 + 2 * i] for i in range(60)])
    shot = Shot(frames=frames, fps=24.0, label="pan_right", origin="test", objects=0.0)
    clip = clip_of(shot)
    assert clip.media is not None
    gaps = [gap for _, gap, *_ in predicted_frames(clip.media.video)]
    assert gaps == pytest.approx([1 / 24] * len(gaps))
    fields = reader.vectors(clip.media.video)
    motion = measure(fields)
    assert motion.tags == ("pan_right",)
    speed = 24 * 2 / np.hypot(192, 192)
    assert motion.scores["camera_x"] == pytest.approx(-speed, rel=0.03)
    assert vector_scores(fields)["vector_mean"] == pytest.approx(speed, rel=0.1)
    assert 0 < vector_scores(fields)["vector_least"] <= vector_scores(fields)["vector_mean"]


@pytest.mark.slow
def test_tags_are_true_on_shots_with_known_paths() -> None:
    """One of each class, of another seed than calibration's and the report's; the 204 shots of
    docs/curation/camera.md are a benchmark."""
    rows = list(measure_shots(warped_shots(len(CLASSES), seed=7, half=1)))
    assert accuracy(rows, "flow").mean >= 0.9
    assert accuracy(rows, "vectors").mean >= 0.7


@pytest.mark.parametrize("label", CLASSES)
def test_drawn_motion_is_what_it_is_called(label: str) -> None:
    for seed in range(5):
        path = draw_motion(np.random.default_rng(seed), label)
        assert path.shape == (NUM_FRAMES, 5) and np.isfinite(path).all()
        speed = np.abs(np.diff(path[:, :2], axis=0)).mean(axis=0).max() * FPS
        moves = label.startswith(("pan", "tilt")) or label in ("handheld", "erratic")
        assert (speed > 0.01) == moves
        zooms = abs(np.log(path[-1, 2] / path[0, 2]))
        assert (zooms > 0.1) == label.startswith("zoom")


def test_separation_is_the_area_under_the_curve() -> None:
    assert separation([0, 1, 2], [3, 4]) == 1 and separation([1], [1]) == 0.5
    assert separation([1, 3], [2]) == 0.5 and np.isnan(separation([], [1]))
