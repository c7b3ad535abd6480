"""Extreme but real videos, odd names, things that are no files: kept, or rejected with a reason."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from curation_runs import good, reasons, run
from curation_videos import decode, scene, write_video

from openwfm.curation.policy import PolicyConfig
from openwfm.data.shards import ShardIndex

EVERYTHING = PolicyConfig(rules={})


def write_at(path: Path, frames: np.ndarray, rate: Fraction, **options: object) -> Path:
    """Any frame rate, pixel format and colour tags."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = str(options.pop("pixel_format", "yuv420p"))
        context = stream.codec_context
        context.options = {"preset": "ultrafast", "crf": "20"}
        for name, value in options.items():
            setattr(context, name, value)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def kept(out: Path) -> dict[str, list[dict]]:
    rows = ShardIndex.open(out).manifest().to_pylist()
    found: dict[str, list[dict]] = {}
    for row in rows:
        if row["record"] == "clip" and row["status"] == "kept":
            found.setdefault(row["path"], []).append(row)
    return found


def test_extreme_frame_rates_and_sizes(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    write_at(raw / "slow.mp4", scene(3, seed=1), Fraction(1, 10))
    write_at(raw / "fast.mp4", scene(700, seed=2, height=32, width=32, speed=0.02), Fraction(1000))
    hdr = {"pixel_format": "yuv420p10le", "color_primaries": 9, "color_trc": 16, "colorspace": 9}
    write_at(raw / "hdr.mp4", scene(40, seed=3), Fraction(24), **hdr)
    eight_k = np.repeat(np.repeat(scene(2, seed=4, height=135, width=240), 32, 1), 32, 2)
    write_at(raw / "8k.mp4", eight_k, Fraction(1))
    report = run(raw, out, policy=EVERYTHING, max_seconds=20, min_shot_seconds=0)
    clips = kept(out)
    assert set(clips) == {"good0.mp4", "slow.mp4", "fast.mp4", "hdr.mp4", "8k.mp4"}
    assert report.num_sources_rejected == 0
    rows = {row["path"]: row for row in ShardIndex.open(out).manifest().to_pylist()[:5]}
    assert rows["slow.mp4"]["fps"] == pytest.approx(0.1)
    assert rows["fast.mp4"]["fps"] == pytest.approx(1000, rel=0.01)
    assert rows["hdr.mp4"]["pixel_format"] == "yuv420p10le"
    assert (rows["8k.mp4"]["width"], rows["8k.mp4"]["height"]) == (7680, 4320)
    for row in (row for rows in clips.values() for row in rows):
        assert row["fps"] == 24 and (row["width"], row["height"]) == (32, 32)
        assert row["num_frames"] == pytest.approx(row["score_seconds"] * 24, abs=1)


def odd_names(raw: Path) -> list[str]:
    names = [
        "with space.mp4", "ünï.mp4", "日本 語.mp4", "-rf.mp4", "new\nline.mp4", "quote'\".mp4",
        "a%2e%2e%2fb.mp4", "file:..mp4", "x" * 240 + ".mp4", "C:\\b.mp4",
    ]  # fmt: skip
    for number, name in enumerate(names):
        write_video(raw / name, scene(24, seed=100 + number))
    return names


def test_odd_names_are_only_names(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    names = odd_names(raw)
    wild = os.fsencode(raw) + b"/\xff\xfe.mp4"
    os.rename(write_video(raw / "tmp.mp4", scene(24, seed=200)), wild)
    before = sorted(path for path in tmp_path.rglob("*") if raw not in path.parents)
    run(raw, out, min_shot_seconds=0, policy=EVERYTHING)
    found = reasons(out)
    assert set(found) == {"good0.mp4", "\ufffd\ufffd.mp4", *names}
    assert set(found.values()) == {"None/None"}
    written = [path for path in tmp_path.rglob("*") if raw not in path.parents]
    assert sorted(p for p in written if p != out and out not in p.parents) == before
    for path in out.rglob("*"):
        assert path.name.isascii() and "\n" not in path.name


def test_things_that_are_no_plain_files(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    os.mkfifo(raw / "pipe.mp4")
    (raw / "a.mp4").symlink_to(raw / "b.mp4")
    (raw / "b.mp4").symlink_to(raw / "a.mp4")
    (raw / "deep").mkdir()
    (raw / "deep" / "up").symlink_to(raw)
    (raw / "escape.mp4").symlink_to("../../../../../../etc/passwd")
    (raw / "inside.mp4").symlink_to("good0.mp4")
    (tmp_path / "raw2").mkdir()
    write_video(tmp_path / "raw2" / "x.mp4", scene(24, seed=9))
    (raw / "sibling.mp4").symlink_to("../raw2/x.mp4")
    report = run(raw, out)
    assert reasons(out) == {
        "a.mp4": "ingest/unreadable",
        "b.mp4": "ingest/unreadable",
        "escape.mp4": "ingest/outside",
        "good0.mp4": "None/None",
        "inside.mp4": "ingest/duplicate_file",
        "pipe.mp4": "ingest/not_a_file",
        "sibling.mp4": "ingest/outside",
    }
    assert report.stages["ingest"].created == 7 and report.num_clips_kept == 2


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_of_every_container_leaves_neighbours_alone(tmp_path, seed) -> None:
    random = np.random.default_rng(seed)
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    frames = scene(24, seed=30 + seed)
    for number, ending in enumerate(("mp4", "mkv", "avi", "mov", "ts")):
        whole = write_video(tmp_path / f"whole.{ending}", frames).read_bytes()
        data = bytearray(whole)
        for at in random.integers(0, len(data), random.integers(1, 60)):
            data[at] ^= 1 << random.integers(8)
        cut = int(random.integers(len(data) // 4, len(data)))
        (raw / f"flipped{number}.{ending}").write_bytes(bytes(data))
        (raw / f"cut{number}.{ending}").write_bytes(whole[:cut])
        (raw / f"padded{number}.{ending}").write_bytes(whole + random.bytes(500))
    report = run(raw, out, min_shot_seconds=0)
    found = reasons(out)
    assert found["good0.mp4"] == "None/None"
    assert report.num_sources == len(found) == len(list(raw.iterdir()))
    rows = ShardIndex.open(out).manifest().to_pylist()
    assert all((row["status"] == "kept") == (row["reason"] is None) for row in rows)
    assert "worker_failed" not in {row["reason"] for row in rows}
    index = ShardIndex.open(out)
    for key in index.keys:
        assert len(decode(index.read(key, "mp4"))) == index.metadata(key)["num_frames"]
