"""The whole folder: broken input, workers, death, resume; models are replaced by small stages."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from curation_runs import good, reasons, run, tree
from curation_videos import scene, set_rotation, write_audio, write_video

from openwfm.curation import jobs as jobs_module
from openwfm.curation.summary import CurationReport
from openwfm.data.shards import ShardIndex


def broken_files(raw: Path) -> dict[str, str]:
    """Files that are not whole videos, and the verdict that each must get."""
    whole = (raw / "good0.mp4").read_bytes()
    (raw / "empty.mp4").write_bytes(b"")
    (raw / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (raw / "text.mp4").write_text("not a video")
    (raw / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (raw / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\ngood0.mp4\n#EXT-X-ENDLIST\n")
    (raw / "list.txt").write_text("ffconcat version 1.0\nfile good0.mp4\n")
    write_audio(raw / "audio.mp4")
    write_video(raw / "one.mp4", scene(1, seed=9))
    shutil.copy(raw / "good1.mp4", raw / "copy of good1.mp4")
    (raw / "outside.mp4").symlink_to("/etc/hostname")
    (raw / "gone.mp4").symlink_to(raw / "nothing.mp4")
    (raw / "loop").symlink_to(raw)
    return {
        "empty.mp4": "probe/empty",
        "noise.mp4": "probe/not_a_video",
        "text.mp4": "probe/not_a_video",
        "cut.mp4": "probe/not_a_video",
        "list.m3u8": "probe/not_a_video",
        "list.txt": "probe/not_a_video",
        "audio.mp4": "probe/no_video_stream",
        "one.mp4": "probe/single_frame",
        "good1.mp4": "ingest/duplicate_file",
        "outside.mp4": "ingest/outside",
        "gone.mp4": "ingest/unreadable",
    }


def odd_files(raw: Path) -> list[str]:
    """Unusual but usable."""
    frames = scene(40, seed=20)
    write_video(raw / "odd size.mp4", frames[:, :71, :95], pixel_format="yuv444p")
    write_video(raw / "ten bit ü.mkv", scene(40, seed=21), pixel_format="yuv420p10le")
    set_rotation(write_video(raw / "rotated.mp4", scene(40, seed=22)))
    pts = np.cumsum(np.random.default_rng(0).integers(20, 80, 40)).tolist()
    write_video(raw / "variable.mp4", scene(40, seed=23), pts=pts)
    shutil.copy(write_video(raw / "x.mp4", scene(40, seed=24)), raw / "wrong.jpeg")
    (raw / "x.mp4").unlink()
    (raw / "deep").mkdir()
    write_video(raw / "deep" / "good.mov", scene(40, seed=25))
    return [
        "odd size.mp4",
        "ten bit ü.mkv",
        "rotated.mp4",
        "variable.mp4",
        "wrong.jpeg",
        "deep/good.mov",
    ]


def test_broken_input_is_rejected_with_a_reason_and_the_rest_goes_on(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw)
    expected, usable = broken_files(raw), odd_files(raw)
    report = run(raw, out)
    found = reasons(out)
    assert {path: verdict for path, verdict in found.items() if path in expected} == expected
    assert all(found[path] == "None/None" for path in usable)
    assert len(found) == report.num_sources == len(expected) + len(usable) + 3
    assert report.num_sources_rejected == len(expected)
    index = ShardIndex.open(out)
    kept = Counter(index.metadata(key)["path"] for key in index.keys)
    assert set(kept) == {*usable, "good0.mp4", "copy of good1.mp4", "good2.mp4"}
    _counts_add_up(out, report)


def _counts_add_up(out: Path, report: CurationReport) -> None:
    rows = ShardIndex.open(out).manifest().to_pylist()
    clips = [row for row in rows if row["record"] == "clip"]
    assert len(rows) == report.num_sources + report.num_clips
    assert sum(row["status"] == "kept" for row in clips) == report.num_clips_kept
    saved = json.loads((out / "report.json").read_text())
    rejected = Counter((row["stage"], row["reason"]) for row in rows if row["status"] == "rejected")
    counted = {(s["name"], r): n for s in saved["stages"] for r, n in s["reasons"].items()}
    assert rejected == counted
    for stage in saved["stages"]:
        assert stage["received"] + stage["created"] == stage["passed"] + stage["rejected"]


def test_defects_are_rejected_and_the_better_of_two_copies_stays(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    live = scene(40, seed=1)
    still, dark = np.repeat(live[:1], 20, axis=0), scene(20, seed=2) // 16
    write_video(raw / "a.mp4", np.concatenate([live[:20], still]))
    write_video(raw / "b.mp4", np.concatenate([dark, live[:20]]), crf=18)
    run(raw, out)
    rows = ShardIndex.open(out).manifest().to_pylist()
    verdicts = [(r["path"], r["reason"]) for r in rows if r["record"] == "clip"]
    assert verdicts == [
        ("a.mp4", "duplicate"), ("a.mp4", "frozen"), ("b.mp4", "black"), ("b.mp4", None)
    ]  # fmt: skip


@pytest.mark.slow
def test_workers_change_nothing_and_a_dead_worker_costs_one_source(tmp_path) -> None:
    raw = tmp_path / "raw"
    good(raw, 4)
    run(raw, tmp_path / "one", workers=0)
    run(raw, tmp_path / "two", workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert "manifest.parquet" in tree(tmp_path / "one")
    write_video(raw / "deadly.mp4", scene(40, seed=50))
    report = run(raw, tmp_path / "two", workers=2)
    assert reasons(tmp_path / "two")["deadly.mp4"] == "ingest/worker_died"
    assert (report.num_sources, report.num_sources_rejected) == (5, 1)
    assert report.num_clips_kept == 8


def test_resume_redoes_nothing_that_is_finished(tmp_path, monkeypatch) -> None:
    raw, out, whole = tmp_path / "raw", tmp_path / "out", tmp_path / "whole"
    good(raw)
    run(raw, whole)
    write = jobs_module.MeasuredWork.write
    done: list[str] = []

    def dies_at_third(self, source, records, accounts) -> None:
        if len(done) == 2:
            self.folder.write(f"{source.id}/half.mp4", b"half")
            next(iter(records))
            raise KeyboardInterrupt
        write(self, source, records, accounts)
        done.append(source.path)

    monkeypatch.setattr(jobs_module.MeasuredWork, "write", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(raw, out)
    with pytest.raises(ValueError, match=r"index\.json: no such file"):
        ShardIndex.open(out)
    stamps = {f: f.stat().st_mtime_ns for f in (out / ".work/measured").glob("*/result.json")}
    assert len(stamps) == 2
    monkeypatch.setattr(jobs_module.MeasuredWork, "write", write)
    run(raw, out)
    assert {f: f.stat().st_mtime_ns for f in stamps} == stamps
    assert tree(out) == tree(whole)
    assert not list((out / ".work").rglob("half.mp4"))
    before = (out / "index.json").stat().st_mtime_ns
    run(raw, out)
    assert (out / "index.json").stat().st_mtime_ns == before


def test_another_recipe_redoes_the_work_and_removed_sources_leave(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw)
    run(raw, out)
    (raw / "good2.mp4").unlink()
    report = run(raw, out)
    assert report.num_clips_kept == 4 and len(ShardIndex.open(out)) == 4
    run(raw, out, size=48)
    index = ShardIndex.open(out)
    assert {index.metadata(key)["width"] for key in index.keys} == {48}


def test_ids_do_not_depend_on_paths(tmp_path) -> None:
    good(tmp_path / "a", 1)
    (tmp_path / "b" / "deep").mkdir(parents=True)
    shutil.copy(tmp_path / "a" / "good0.mp4", tmp_path / "b" / "deep" / "other.mp4")
    run(tmp_path / "a", tmp_path / "out a")
    run(tmp_path / "b", tmp_path / "out b")
    assert (
        ShardIndex.open(tmp_path / "out a").sources == ShardIndex.open(tmp_path / "out b").sources
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path) -> None:
    good(tmp_path / "raw", 1)
    secret = tmp_path / "raw" / "secret.mp4"
    secret.write_bytes(b"x")
    secret.chmod(0)
    run(tmp_path / "raw", tmp_path / "out")
    assert reasons(tmp_path / "out")["secret.mp4"] == "ingest/unreadable"


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_are_kept_or_rejected_but_never_crash(tmp_path, seed) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    random = np.random.default_rng(seed)
    for number in range(6):
        data = bytearray((raw / "good0.mp4").read_bytes())
        for at in random.integers(0, len(data), 8 if number % 2 else 40):
            data[at] = random.integers(256)
        (raw / f"flipped{number}.mp4").write_bytes(bytes(data))
    report = run(raw, out)
    assert report.num_sources == 7
    assert reasons(out)["good0.mp4"] == "None/None"
    _counts_add_up(out, report)


def test_empty_folder(tmp_path) -> None:
    (tmp_path / "raw").mkdir()
    report = run(tmp_path / "raw", tmp_path / "out")
    assert report.num_sources == report.num_clips == 0
    assert ShardIndex.open(tmp_path / "out").keys == []
