"""What the driver keeps of a clip, and that nothing is lost by it."""

from __future__ import annotations

import json
import tracemalloc

import pyarrow.parquet as pq
from curation_runs import good, run

from openwfm.curation.record import Clip, clip_from_json, slim, to_json
from openwfm.curation.storage import open_folder
from openwfm.curation.work import MeasuredWork
from openwfm.data.shards import ShardIndex

SCORES = {f"a_score_of_{number}": number / 7 for number in range(26)}
EVIDENCE = {"motion": {"pairs": [{"zoom": k / 3, "shake": k / 7} for k in range(20)]}}


def clip_text(number: int) -> str:
    clip = Clip(
        source="s" * 20, path="a/film.mp4", id=f"{number:020d}", start_frame=number,
        end_frame=number + 1, start_seconds=0.1, end_seconds=3.3, scores=SCORES,
        evidence=EVIDENCE, tags=("pan_left", "dark", "content_driving"),
    )  # fmt: skip
    return json.dumps(to_json(clip))


def test_a_clip_weighs_less_than_three_kilobytes() -> None:
    slim(clip_from_json(json.loads(clip_text(0))))  # words that are shared
    tracemalloc.start()
    kept = [slim(clip_from_json(json.loads(clip_text(number)))) for number in range(500)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(kept) < 3000


def test_the_evidence_comes_back_and_is_in_the_shards(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 2)
    run(raw, out)
    index = ShardIndex.open(out)
    work = MeasuredWork(open_folder(str(out)).below(".work"), {})
    rows = [row for row in pq.read_table(out / "manifest.parquet").to_pylist() if row["evidence"]]
    kept = [row for row in rows if row["status"] == "kept"]
    assert kept
    for row in kept:
        data = index.metadata(row["id"])
        stored = json.loads((out / row["evidence"]).read_text())["clips"]
        (full,) = (clip for clip in stored if clip["id"] == row["id"])
        assert full["evidence"] and data["evidence"].items() >= full["evidence"].items()
        lean = slim(clip_from_json(full))
        assert not lean.evidence and work.in_full(lean) == clip_from_json(full)
