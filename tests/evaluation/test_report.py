"""The page: it holds the numbers it was given, fetches nothing, and says what is missing."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from openwfm.commands import report as command
from openwfm.config import compose
from openwfm.evaluation.charts import bar_chart, line_chart, running_mean
from openwfm.evaluation.report import write_report
from openwfm.evaluation.report_inputs import ReportInputs, read_curves, read_inputs
from openwfm.files import write_json, write_text
from openwfm.page import ShownClip
from openwfm.video import png_bytes, read_video, write_video

ROWS = ("world model", "copy last frame", "tokenizer reconstruction", "mean video")


def score(mean: float | None, half: float = 0.5) -> dict:
    low, high = (None, None) if mean is None else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "num_values": 40, "num_groups": 20}


def futures(difference: float | None) -> dict:
    names = ("psnr", "ssim", "moving_psnr")
    return {
        "kind": "futures",
        "num_in": 41,
        "num_evaluated": 40,
        "rejected": {"3:x": "not finite"},
        "condition_frames": 9,
        "future_frames": 8,
        "rows": {row: {m: score(20.125 + i) for m in names} for i, row in enumerate(ROWS)},
        "differences": {
            f"world model - {row}": {m: score(difference) for m in names} for row in ROWS[1:]
        },
        "curves": {row: {m: [20.0 - i for i in range(8)] for m in names[:2]} for row in ROWS},
        "weights_sha256": "cd" * 32,
    }


def write_run(run: Path, evaluation: dict, start: str | None) -> None:
    session = {
        "started": "2026-01-02T03:04:05+00:00",
        "seed": 7,
        "git_commit": "f" * 40,
        "uncommitted_sha256": None,
        "start_weights": start,
        "device": "cpu",
        "machine": {"processor": "A <fast> one", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "packages": {"torch": "9.9.9"},
        "data_manifest_sha256": "ab" * 32,
    }
    write_json(run / "provenance.json", {"schema": 1, "sessions": [session]})
    offset = 0.0 if start is None else 0.5
    write_json(run / "weights" / "config.json", {"step": 321})
    lines = ["epoch,step,train/loss,val/psnr"]
    lines += [
        f"0,{step},{offset + 2 / (step + 1)},{20 + offset + step if step % 10 == 9 else ''}"
        for step in range(100)
    ]
    write_text(run / "metrics" / "metrics.csv", "\n".join(lines) + "\n")
    video = torch.randint(0, 255, (5, 16, 32, 3), dtype=torch.uint8)
    folder = run / "evaluation"
    write_video(folder / "examples" / "00.mp4", video, 24)
    (folder / "examples" / "00.png").write_bytes(png_bytes(video[0]))
    example = {
        "clip": "abc",
        "caption": "A <red> ball & a box",
        "video": "examples/00.mp4",
        "picture": "examples/00.png",
        "condition_frames": 9,
    }
    write_json(folder / "evaluation.json", {**evaluation, "examples": [example]})


@pytest.fixture
def world(tmp_path, make_shards) -> Path:
    folder = tmp_path / "tiny"
    make_shards(folder / "shards", num_sources=4)
    stage = {"received": 0, "created": 10, "passed": 8, "rejected": 2, "seconds": 1.5, "share": 1.0}
    curation = {
        "num_sources": 4,
        "num_sources_rejected": 1,
        "num_clips": 10,
        "num_clips_kept": 8,
        "source_frames": 1234,
        "stages": [{"name": "shots", "reasons": {"too_short": 2}, **stage}],
    }
    write_json(folder / "shards" / "report.json", curation)
    tokenizer = {
        "kind": "reconstruction",
        "num_in": 5,
        "num_evaluated": 5,
        "rejected": {},
        "rows": {
            r: {"psnr": score(31.4), "ssim": score(0.9)} for r in ("tokenizer", "mean colour")
        },
    }
    write_run(folder / "tokenizer", tokenizer, start="experiments/001/weights")
    write_run(folder / "world_model", futures(1.75), start=None)
    write_json(folder / "stages.json", [{"name": "curate", "seconds": 61.0}])
    return folder


class Page(HTMLParser):
    """Collects what a page would load, its tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "srcset", "poster", "action"):
                self.loads.append(value or "")

    def handle_data(self, data):
        self.words += data


def read_page(path: Path) -> Page:
    return Page(path.read_text())


def test_the_page_fetches_nothing(world, tmp_path):
    write_report(read_inputs(world, 3), tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    assert page.loads and all(load.startswith(("data:", "#")) for load in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    text = (tmp_path / "report.html").read_text()
    assert "@import" not in text
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", text))


def test_ids_of_charts_do_not_collide(world, tmp_path):
    write_report(read_inputs(world, 3), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    clips = re.findall(r'<clipPath id="([^"]+)"', text)
    assert len(clips) >= 5 and len(set(clips)) == len(clips)


def test_the_page_holds_the_numbers_and_the_videos(world, tmp_path):
    write_report(read_inputs(world, 3), tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    for word in (
        "20.12 [19.62, 20.62]",  # a row
        "+1.75 [+1.25, +2.25]",  # a difference
        "31.4 dB",
        "41 windows in, 40 evaluated, 1 rejected",
        "too_short 2",
        "better than copying the last frame",
        "tokenizer: published weights",
        "world model: nothing (SCRATCH)",
        "A <red> ball & a box",  # escaped in the source, so it is text here
        "A <fast> one, 2 cores, 8.0 GiB",
        "61 s",
        "Trained from published weights (post-training) in experiments/001/weights, 321 steps",
        "make world SEED=7 SCRATCH=1",
        "torch9.9.9",
    ):
        assert word in page.words, word
    videos = [load for load in page.loads if load.startswith("data:video/mp4;base64,")]
    assert len(videos) == 3 + 1 + 1
    saved = tmp_path / "back.mp4"
    saved.write_bytes(base64.b64decode(videos[0].partition(",")[2]))
    assert read_video(saved)[0].shape == (5, 16, 32, 3)


@pytest.mark.parametrize(
    ("difference", "words"),
    [(0.2, "no different from"), (-3.0, "worse than"), (3.0, "better than")],
)
def test_the_verdict_is_that_of_the_interval(world, tmp_path, difference, words):
    write_run(world / "world_model", futures(difference), None)
    write_report(read_inputs(world, 1), tmp_path / "report.html")
    assert f"{words} copying the last frame" in read_page(tmp_path / "report.html").words


def test_values_that_do_not_exist_are_dashes(world, tmp_path):
    write_run(world / "world_model", futures(None), None)
    write_report(read_inputs(world, 1), tmp_path / "report.html")
    assert "–" in read_page(tmp_path / "report.html").words


def test_what_is_missing_is_said(world, tmp_path, capsys):
    (world / "world_model" / "evaluation" / "evaluation.json").unlink()
    (world / "stages.json").unlink()
    assert command.main(compose("report", [f"in={world}"])) == 0
    words = read_page(world / "report.html").words
    assert "Not there yet: stages.json, world_model/evaluation/evaluation.json" in words
    assert f"not there: {world}/stages.json" in capsys.readouterr().out


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds none of stages.json"):
        read_inputs(tmp_path, 1)


def test_a_broken_file_is_named(world):
    (world / "tokenizer" / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match="evaluation.json: not a readable JSON"):
        read_inputs(world, 1)


def test_equal_inputs_give_equal_pages(world, tmp_path):
    for name in ("a", "b"):
        write_report(read_inputs(world, 3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_report_of_nothing_but_clips(tmp_path):
    clip = ShownClip(caption="c" * 300, mp4=b"x")
    write_report(ReportInputs(title="<b>", clips=[clip]), tmp_path / "r.html")
    words = read_page(tmp_path / "r.html").words
    assert "c" * 157 + "…" in words and "c" * 158 not in words and "<b>" in words


def test_curves_of_a_resumed_run_are_one(tmp_path):
    write_text(tmp_path / "metrics.000.csv", "step,train/loss\n0,5\n1,4\n2,9\n")
    write_text(tmp_path / "metrics.csv", "step,train/loss,val/loss\n2,3\n3,2,\n3,,7\n4,nan,\n")
    assert read_curves(tmp_path) == {
        "train/loss": ([0, 1, 2, 3], [5, 4, 3, 2]),
        "val/loss": ([3], [7]),
    }
    write_text(tmp_path / "metrics.csv", "step,train/loss\n1,many\n")
    with pytest.raises(ValueError, match="metrics.csv: not a table of metrics"):
        read_curves(tmp_path)
    assert read_curves(tmp_path / "nowhere") == {}


def test_charts():
    rng = np.random.default_rng(0)
    x, y = list(range(200)), list(rng.normal(size=200))
    mean_x, mean_y = running_mean(x, y, 7)
    assert mean_x[0] == 6 and np.allclose(mean_y, np.convolve(y, np.ones(7) / 7, "valid"))
    for svg in (
        line_chart({"a": (x, y), "b": ([1, 2], [3, 4])}, x_label="step", y_label="loss", log=True),
        bar_chart([("one", 3.0), ("two & <three>", 4.0)], unit="s"),
    ):
        assert svg.startswith("<svg") and "currentColor" in svg and "#010203" not in svg
    assert json.dumps(svg)
