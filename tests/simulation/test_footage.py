import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from openwfm.extras import MissingExtraError
from openwfm.files import read_json
from openwfm.simulation import natural
from openwfm.simulation.config import FootageConfig
from openwfm.simulation.footage import film_footage
from openwfm.video import read_video

SMALL = {"num_takes": 2, "seed": 7, "size": 32, "fps": 12, "supersample": 1}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Path:
    out = tmp_path_factory.mktemp("footage")
    summary = film_footage(FootageConfig(out=str(out), workers=1, **SMALL))
    assert summary.filmed == summary.num_takes == 2
    assert summary.frames_per_second > 0
    return out


@pytest.fixture(scope="module")
def takes(footage: Path) -> list[tuple[np.ndarray, dict]]:
    truths = read_json(footage / "answers" / "answers.json")
    return [
        (read_video(footage / "raw" / f"take_{t['take']:04d}.mp4")[0].numpy().astype(float), t)
        for t in truths
    ]


def hashes(out: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (out / "raw").iterdir()}


def test_files_do_not_depend_on_the_number_of_workers(footage: Path, tmp_path: Path) -> None:
    film_footage(FootageConfig(out=str(tmp_path), workers=2, **SMALL))
    assert hashes(tmp_path) == hashes(footage)
    sheets = [out / "answers" / "answers.json" for out in (tmp_path, footage)]
    assert sheets[0].read_bytes() == sheets[1].read_bytes()


def test_cuts_are_the_largest_changes_of_the_picture(takes: list) -> None:
    for frames, truth in takes:
        assert len(frames) == truth["num_frames"]
        changes = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
        largest = np.argsort(changes)[-len(truth["cuts"]) :] + 1
        assert sorted(largest.tolist()) == truth["cuts"]


def test_defects_are_what_the_answer_sheet_says(takes: list) -> None:
    kinds = set()
    for frames, truth in takes:
        for shot in truth["shots"]:
            kinds.add(shot["kind"])
            own = frames[shot["start"] : shot["end"]]
            moves = np.abs(np.diff(own, axis=0)).mean((1, 2, 3)).max()
            if shot["kind"] == "black":
                assert own.mean() < 12
            elif shot["kind"] in ("frozen", "title"):
                assert moves < 0.8
            elif shot["kind"] == "duplicate":
                source = shot["duplicate_of"]
                there = takes[source["take"]]
                start = there[1]["shots"][source["shot"]]["start"]
                middle = slice(12, len(own) - 12)
                again = there[0][start : start + len(own)]
                assert np.abs(own[middle] - again[middle]).mean() < 3
            else:
                assert own.mean() > 15
                assert moves > 0.3
    assert kinds == {"normal", "title", "frozen", "duplicate", "black"}


def test_the_public_sidecar_does_not_leak_the_answers(footage: Path, takes: list) -> None:
    for path in sorted((footage / "raw").glob("*.json")):
        public = read_json(path)
        truth = takes[int(path.stem[-4:])][1]
        assert set(public) == {"schema", "kind", "license", "fps", "shots_captions"}
        entries = public["shots_captions"]
        assert all(set(e) == {"start", "end", "caption", "scenario"} for e in entries)
        text = json.dumps(public)
        assert not any(word in text for word in ("duplicate", "frozen", "dissolve", "normal"))
        told = [(entry["start"], entry["end"]) for entry in entries]
        seen = [
            (shot["start"], shot["end"])
            for shot in truth["shots"]
            if shot["kind"] not in ("title", "black")
        ]
        assert told == seen


def test_raw_holds_only_takes_and_sidecars(footage: Path) -> None:
    names = sorted(path.name for path in (footage / "raw").iterdir())
    assert names == [f"take_000{i}.{end}" for i in range(2) for end in ("json", "mp4")]


def test_only_what_is_missing_is_filmed_again(footage: Path) -> None:
    config = FootageConfig(out=str(footage), workers=1, **SMALL)
    before = hashes(footage)
    assert film_footage(config).filmed == 0
    (footage / "raw" / "take_0001.json").unlink()
    kept = (footage / "raw" / "take_0000.mp4").stat().st_mtime_ns
    assert film_footage(config).filmed == 1
    assert (footage / "raw" / "take_0000.mp4").stat().st_mtime_ns == kept
    assert hashes(footage) == before


def test_a_folder_of_another_config_is_refused(footage: Path) -> None:
    other = {**SMALL, "seed": 8}
    with pytest.raises(ValueError, match=r"holds footage of another config \(seed=7, not 8\)"):
        film_footage(FootageConfig(out=str(footage), **other))


@pytest.mark.parametrize(
    "key, value, rule",
    [
        ("size", 65, "multiple of 16"),
        ("size", 16, "from 32 to 1024"),
        ("num_takes", 0, "from 1"),
        ("num_takes", 1.5, "whole number"),
        ("workers", True, "whole number"),
        ("seed", -1, "from 0"),
        ("fps", 5, "from 12 to 120"),
        ("supersample", 3, "one of 1, 2, 4"),
        ("out", "", "folder"),
    ],
)
def test_bad_values_are_named_with_their_rule(key: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}=.*{rule}"):
        FootageConfig(**{"out": "x", key: value})  # type: ignore[arg-type]


def test_the_yaml_names_every_field_with_its_default() -> None:
    path = Path(__file__).parents[2] / "conf" / "simulate.yaml"
    root = yaml.safe_load(path.read_text())
    node = root["takes"]
    assert node.pop("_target_") == "openwfm.simulation.config.FootageConfig"
    assert node == {key: f"${{{key}}}" for key in FootageConfig.__dataclass_fields__}
    values = {key: root[key] for key in node if key != "out"}
    assert FootageConfig(out="x", **{**values, "workers": 1}) == FootageConfig(out="x")


def test_natural_videos_are_copied_once(tmp_path: Path) -> None:
    copies = natural.link_natural(tmp_path)
    assert [path.name for path in copies] == list(natural.NAMES)
    stamps = [path.stat().st_mtime_ns for path in copies]
    copies[1].write_bytes(b"cut off")
    natural.link_natural(tmp_path)
    assert [path.stat().st_mtime_ns for path in copies][::2] == stamps[::2]
    for copy, original in zip(copies, natural.natural_videos(), strict=True):
        assert copy.read_bytes() == original.read_bytes()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(natural, "package_folder", lambda package, extra: tmp_path)
    with pytest.raises(MissingExtraError, match=r"bikes\.mp4.*openwfm\[simulation\]"):
        natural.natural_videos()
