"""What is redone and what is not: another policy, another sidecar, a failure, damaged work."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from curation_runs import POLICY, good, reasons, run, tree
from curation_stages import CountLetters, make_phases
from curation_videos import scene, write_video

from openwfm.curation import manifest as manifest_module
from openwfm.curation import pack as pack_module
from openwfm.curation.captioner import WriteCaption
from openwfm.curation.config import CurationConfig
from openwfm.curation.policy import PolicyConfig
from openwfm.curation.quality import MeasureQuality
from openwfm.curation.record import Clip, Record, RejectedError
from openwfm.curation.stages import Phases
from openwfm.data.shards import ShardIndex

CALLS: Counter[str] = Counter()


class CountedMeasure(MeasureQuality):
    def process(self, record: Record) -> list[Record]:
        CALLS["measure"] += 1
        (clip,) = super().process(record)
        assert isinstance(clip, Clip)
        category = "nature" if clip.start_frame == 0 else "driving"
        return [replace(clip, tags=(*clip.tags, f"content_{category}"))]


class CountedCaption(WriteCaption):
    def process(self, record: Record) -> list[Record]:
        CALLS["caption"] += 1
        assert isinstance(record, Clip) and record.rejection is None and record.weight
        return super().process(record)


def counted(config: CurationConfig) -> Phases:
    CALLS["setup"] += 1
    phases = make_phases(config)
    return Phases(
        measure=(*phases.measure[:-1], CountedMeasure()), caption=(CountedCaption(), CountLetters())
    )


@pytest.fixture(autouse=True)
def _zero() -> None:
    CALLS.clear()


def second_halves() -> PolicyConfig:
    return PolicyConfig(
        rules=POLICY.rules, exclude_content=("nature",), weights={"driving": 3.0, "nature": 2.0}
    )


def test_another_policy_measures_nothing_and_captions_only_what_is_new(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw)
    report = run(raw, out, phases=counted, policy=second_halves())
    assert report.num_clips_kept == 3
    assert (CALLS["measure"], CALLS["caption"]) == (6, 3)
    narrow = tree(out)
    report = run(raw, out, phases=counted)
    assert report.num_clips_kept == 6 and report.new_frames_per_second is None
    assert (CALLS["measure"], CALLS["caption"]) == (6, 6)
    run(raw, out, phases=counted, policy=second_halves())
    assert (CALLS["measure"], CALLS["caption"]) == (6, 6)
    assert tree(out) == narrow


def test_weights_and_scores_reach_the_manifest_and_the_shards(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 2)
    run(raw, out, phases=counted, policy=second_halves())
    index = ShardIndex.open(out)
    rows = [row for row in index.manifest().to_pylist() if row["record"] == "clip"]
    assert [(row["status"], row["weight"], row["reason"]) for row in rows] == [
        ("rejected", None, "content"), ("kept", 3.0, None),
    ] * 2  # fmt: skip
    for row in rows:
        assert ("content_driving" in row["tags"]) == (row["status"] == "kept")
        assert abs(row["score_seconds"] - (row["end_seconds"] - row["start_seconds"])) < 1e-6
        evidence = json.loads((out / row["evidence"]).read_text())
        assert row["id"] in [clip["id"] for clip in evidence["clips"]]
    assert {index.metadata(key)["weight"] for key in index.keys} == {3.0}


def test_a_missing_score_is_the_users_mistake_and_costs_no_second_measurement(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    ugly = PolicyConfig(rules={"ugly": {"score": "beauty", "min": 1}})
    with pytest.raises(ValueError, match=r"rules\.ugly\.score=beauty.*known: black"):
        run(raw, out, phases=counted, policy=ugly)
    assert run(raw, out, phases=counted).num_clips_kept == 2
    assert CALLS["measure"] == 2


def test_a_sidecar_that_changes_changes_its_captions_only(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 2)
    run(raw, out, phases=counted)
    shots = [{"start": 0, "end": 20, "caption": "A ball rolls."}]
    (raw / "good1.json").write_text(json.dumps({"schema": 1, "shots_captions": shots}))
    run(raw, out, phases=counted)
    assert (CALLS["measure"], CALLS["caption"]) == (4, 6)
    rows = ShardIndex.open(out).manifest().to_pylist()
    captions = [row["caption"] for row in rows if row["record"] == "clip"]
    assert captions.count("A ball rolls.") == 1 and captions[2] == "A ball rolls."


def test_a_source_that_moves_is_measured_again_but_not_captioned(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    run(raw, out, phases=counted)
    (raw / "good0.mp4").rename(raw / "moved.mp4")
    run(raw, out, phases=counted)
    assert CALLS["caption"] == 2
    index = ShardIndex.open(out)
    assert {index.metadata(key)["path"] for key in index.keys} == {"moved.mp4"}


FAIL: set[str] = set()


class Moody(WriteCaption):
    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip)
        if record.path in FAIL:
            raise KeyError("bug") if record.start_frame else RejectedError("refused", "no answer")
        return super().process(record)


def moody(config: CurationConfig) -> Phases:
    return replace(make_phases(config), caption=(Moody(), CountLetters()))


def test_failed_captions_cost_their_clip_and_are_tried_again(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw)
    FAIL.add("good1.mp4")
    report = run(raw, out, phases=moody)
    account = report.stages["caption"]
    assert (account.received, account.passed, account.rejected) == (6, 4, 2)
    assert account.reasons == {"refused": 1, "worker_failed": 1}
    assert report.stages["text"].received == report.num_clips_kept == 4
    FAIL.clear()
    run(raw, tmp_path / "whole", phases=moody)
    assert run(raw, out, phases=moody).num_clips_kept == 6
    assert tree(out) == tree(tmp_path / "whole")


class Buggy(MeasureQuality):
    def process(self, record: Record) -> list[Record]:
        if record.path in FAIL:
            raise ZeroDivisionError("a bug")
        return super().process(record)


def buggy(config: CurationConfig) -> Phases:
    phases = make_phases(config)
    return replace(phases, measure=(*phases.measure[:-1], Buggy()))


def test_a_bug_costs_one_source_and_names_itself(tmp_path, caplog) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw)
    FAIL.add("good1.mp4")
    report = run(raw, out, phases=buggy)
    assert "ZeroDivisionError: a bug" in caplog.text and "Traceback" in caplog.text
    assert reasons(out)["good1.mp4"] == "ingest/worker_failed"
    assert report.num_clips_kept == 4 and report.stages["ingest"].rejected == 1
    assert not list((out / ".work/measured").glob("*/.*"))
    FAIL.clear()
    assert run(raw, out, phases=buggy).num_clips_kept == 6


def test_parts_of_the_manifest_can_be_read_while_a_run_goes(tmp_path, monkeypatch) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw)
    (raw / "empty.mp4").write_bytes(b"")
    monkeypatch.setattr(manifest_module, "ROWS_IN_PART", 4)

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("openwfm.curation.curate.pack", stopped)
        for _ in range(2):  # the second run adds nothing
            with pytest.raises(KeyboardInterrupt):
                run(raw, out)
            parts = sorted((out / ".work/manifest").rglob("*.parquet"))
            rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
            assert len(parts) == 2 and len(rows) == 10
            assert Counter(row["status"] for row in rows) == {"measured": 9, "rejected": 1}
            assert len({(row["record"], row["id"]) for row in rows}) == 10
    write_video(raw / "late.mp4", scene(40, seed=9))
    with monkeypatch.context() as patch:
        patch.setattr("openwfm.curation.curate.pack", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(raw, out)
    assert len(list((out / ".work/manifest").rglob("*.parquet"))) == 3
    run(raw, out)
    assert not (out / ".work/manifest").exists()
    assert ShardIndex.open(out).manifest().num_rows == 13


@pytest.mark.parametrize("damage", [b"", b"{", b"[]\n"])
def test_work_that_a_power_cut_emptied_is_redone(tmp_path, damage) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 2)
    run(raw, out, phases=counted)
    whole = tree(out)
    results = sorted((out / ".work").rglob("result.json"))
    for kind in ("measured", "captioned"):
        next(file for file in results if kind in file.parts).write_bytes(damage)
    media = sorted((out / ".work/measured").rglob("*.mp4"))[-1]
    media.write_bytes(b"")
    (out / "index.json").unlink()
    run(raw, out, phases=counted)
    assert (CALLS["measure"], CALLS["caption"]) == (8, 5)
    assert tree(out) == whole


def test_work_that_was_changed_is_never_packed(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    run(raw, out)
    media = sorted((out / ".work/measured").rglob("*.mp4"))[0]
    data = bytearray(media.read_bytes())
    data[-1] ^= 1
    media.write_bytes(bytes(data))
    (out / "index.json").unlink()
    with pytest.raises(ValueError, match=r"\.mp4: changed since it was written; delete"):
        run(raw, out)


def test_temporary_files_of_a_killed_packing_go_and_others_stay(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 1)
    run(raw, out)
    whole = tree(out)
    folder: Path = next(out.rglob("shard-*.tar")).parent
    for file in (folder / ".shard-000001.tar.ab12_c3d", out / ".index.json.aaaaaaaa"):
        file.write_bytes(b"half")
    (out / ".gitignore").write_text("*")
    (out / "index.json").unlink()
    run(raw, out)
    assert tree(out) == whole | {".gitignore": b"*"}
    assert pack_module.TEMPORARY.fullmatch(".gitignore") is None
