"""The page of a curation run, from a folder as ``openwfm curate`` leaves it."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest
import torch

from openwfm.cli import main
from openwfm.data.manifest import COLUMNS
from openwfm.data.shards import ShardWriter
from openwfm.evaluation.charts import histogram
from openwfm.evaluation.curation_inputs import contact, read_curation
from openwfm.files import write_bytes, write_json
from openwfm.video import video_bytes

BUCKET = "resolution_lt_720/aspect_1_1/duration_0_5"
SCHEMA = pa.schema([*COLUMNS, ("score_luma_p95", pa.float64()), ("score_frozen", pa.float64())])


def clip(number, status="kept", reason=None, detail=None, luma=100.0):
    return {
        "record": "clip", "id": f"clip{number}", "source": "src", "path": "a <b>.mp4",
        "status": status, "reason": reason, "detail": detail, "stage": reason and "policy",
        "start_frame": 10 * number, "end_frame": 10 * number + 9, "start_seconds": number / 2,
        "end_seconds": number / 2 + 0.4, "width": 32, "height": 32, "caption": f"Clip {number}.",
        "tags": ["static_camera", "dark"] if number else ["dark"], "score_luma_p95": luma,
        "score_frozen": 0.1 * number,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("curated")
    rows = [
        {"record": "source", "id": "bad", "source": "bad", "path": "no.mp4", "status": "rejected",
         "reason": "not_a_video", "detail": "invalid data", "stage": "probe"},
        clip(0), clip(1),
        clip(2, "rejected", "black", "luma_p95=3 below 40", 3.0),
        clip(3, "rejected", "black", "luma_p95=4 below 40", 4.0),
        clip(4, "rejected", "duplicate", "repeats clip1 (a.mp4, frame 10)"),
    ]  # fmt: skip
    writer = ShardWriter(root)
    for row in rows[1:]:
        video = video_bytes(torch.full((9, 32, 32, 3), int(row["score_luma_p95"])).byte(), 24.0)
        if row["status"] == "kept":
            facts = json.dumps({"caption": row["caption"]}).encode()
            writer.add(BUCKET, row["id"], "src", {"mp4": video, "json": facts})
        elif row["id"] != "clip3":  # its file is gone
            name = f"src-{row['start_frame']:07d}-{row['end_frame']:07d}.mp4"
            write_bytes(root / ".work" / "measured" / "src" / name, video)
    writer.finish(pa.Table.from_pylist(rows, schema=SCHEMA))
    stages = [
        {"name": "ingest", "received": 0, "created": 2, "passed": 2, "rejected": 0, "reasons": {},
         "share": 0.0},
        {"name": "policy", "received": 5, "created": 0, "passed": 3, "rejected": 2,
         "reasons": {"black": 2}, "share": 1.0},
    ]  # fmt: skip
    report = {
        "num_sources": 2, "num_sources_rejected": 1, "num_clips": 5, "num_clips_kept": 2,
        "source_seconds": 12.0, "seconds": 3.0, "new_frames_per_second": None, "stages": stages,
        "manifest_sha256": "0" * 64,
        "policy": {"rules": {"black": {"score": "luma_p95", "min": 40.0, "max": None}}},
    }  # fmt: skip
    write_json(root / "report.json", report)
    return root


def test_everything_that_was_rejected_is_shown(folder):
    inputs = read_curation(folder, 6)
    assert dict(inputs.num_rejected) == {"black": 2, "not_a_video": 1, "duplicate": 1}
    assert list(inputs.rejected) == ["black", "not_a_video"]
    black = inputs.rejected["black"]
    assert [picture.png is None for picture in black] == [False, True]
    assert black[0].note == "luma_p95=3 below 40"
    ((kept, copy),) = inputs.duplicates
    assert kept.note == "Clip 1." and copy.note.startswith("repeats clip1")
    assert inputs.thresholds == {"luma_p95": [40.0]}
    assert inputs.scores["luma_p95"] == ([100.0, 100.0], [3.0, 4.0, 100.0])
    assert inputs.tags == [("dark", 2), ("static_camera", 1)]


def test_at_most_so_many_pictures(folder):
    inputs = read_curation(folder, 1)
    assert len(inputs.kept) == 1 and len(inputs.rejected["black"]) == 1
    assert inputs.num_rejected["black"] == 2


def test_the_page(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", f"in={folder}", f"out={out}"]) == 0
    page = out.read_text()
    assert "a &lt;b&gt;.mp4" in page and "<b>.mp4" not in page
    assert "black 2" in page and "luma_p95   | 40" in page.replace("&#160;", " ")
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("<img") == 5  # two kept, one black, and the two of the couple


def test_an_unfinished_folder(tmp_path):
    with pytest.raises(ValueError, match="openwfm curate writes them"):
        read_curation(tmp_path, 3)


def test_four_frames_in_a_row():
    video = torch.arange(9)[:, None, None, None].expand(9, 300, 200, 3).byte()
    picture = contact(video)
    assert picture.shape == (96, 4 * 64 + 3, 3)
    assert [int(picture[5, 65 * i + 5, 0]) for i in range(4)] == [0, 3, 5, 8]
    assert contact(video[:1, :50, :40]).shape == (50, 40, 3)


def test_histograms_of_nothing_and_of_one_value():
    for values in ([], [3.0]):
        assert "<svg" in histogram({"kept": values, "rejected": []}, x_label="x", lines=[1.0])
    many = np.random.default_rng(0).normal(size=500).tolist()
    assert "<svg" in histogram({"kept": many, "rejected": many}, x_label="x")
