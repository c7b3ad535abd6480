"""Shards out to LeRobot and back: equal bytes, closed-form statistics, the real package's reading.

The last test needs the packages, which do not fit beside the project's: name interpreters that have
them in ``OPENWFM_LEROBOT_V30`` (lerobot-dataset 0.4.4) and ``OPENWFM_LEROBOT_V21`` (lerobot 0.3.3).
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from openwfm.data.importers import lerobot_files
from openwfm.data.importers.lerobot import import_lerobot
from openwfm.data.importers.lerobot_export import export_lerobot
from openwfm.data.members import ActionTrack, action_bytes, npz_bytes, read_action, read_npz
from openwfm.data.shards import ShardIndex, ShardWriter
from openwfm.data.windows import decode_clip
from openwfm.files import read_json
from openwfm.video import video_bytes
from tests.data.importers.write_with_lerobot import picture

HERE = Path(__file__).parent
LENGTHS = (9, 6, 8)
versions = pytest.mark.parametrize("version", ["v2.1", "v3.0"])


def write_clips(
    root: Path, views: tuple[str, ...] = ("main",), width: int = 7, **of_second: Any
) -> Path:
    """Three clips as a simulated world writes them; ``of_second`` changes the second one."""
    writer, rows = ShardWriter(root), []
    for i, length in enumerate(LENGTHS):
        changes: Mapping[str, Any] = of_second if i == 1 else {}
        fps, draw = changes.get("fps", 5.0), np.random.default_rng(i)
        key, size = f"{'bac'[i]}{i}", changes.get("size", (32, 48))
        members: dict[str, bytes] = {}
        for v, view in enumerate(views):
            frames = np.stack([picture(*size, t, i + v) for t in range(length)])
            name = "mp4" if views == ("main",) else f"{view}.mp4"
            members[name] = video_bytes(torch.from_numpy(frames), fps)
        track = ActionTrack(
            values=draw.normal(size=(changes.get("steps", length - 1), width)),
            names=tuple(f"joint{n}" for n in range(width)), units=("rad",) * width,
            rate=changes.get("rate", fps),
        )  # fmt: skip
        state = {
            "pose": draw.normal(size=(length, 2, 3)).astype(np.float32),
            "success": np.arange(length) == length - 1,
            "num_contacts": draw.integers(0, 9, length),
            "phase": np.array(["reach", "grasp"])[np.arange(length) % 2],
            "friction": np.array(0.3),
        }
        facts = {
            "id": key, "source": f"group{i // 2}", "kind": "simulated", "world": "toy", "fps": fps,
            "num_frames": length, "width": size[1], "height": size[0], "views": list(views),
            "caption": f"An arm pushes block {i % 2}.", "caption_source": "ground_truth",
            "captions": [{"text": "An arm.", "source": "ground_truth", "view": views[0]}],
            "tags": ["push"], "scores": {}, "facts": {"instruction": f"Push block {i % 2}."},
        }  # fmt: skip
        members |= {"state.npz": npz_bytes(state), "json": json.dumps(facts).encode()}
        members["camera.npz"] = npz_bytes({"intrinsics": np.eye(3)})
        if not changes.get("no_action"):
            members["action.npz"] = action_bytes(track)
        writer.add("resolution_lt_720/aspect_4_3/duration_0_5", key, facts["source"], members)
        rows.append({"record": "clip", "id": key, "status": "kept"})
    writer.finish(pa.Table.from_pylist(rows))
    return root


@versions
@pytest.mark.parametrize("width", [1, 7])
@pytest.mark.parametrize("views", [("main",), ("front", "wrist")])
def test_a_round_trip_loses_nothing(
    version: str, width: int, views: tuple[str, ...], tmp_path: Path
) -> None:
    before = ShardIndex.open(write_clips(tmp_path / "shards", views, width))
    summary = export_lerobot(before.root, tmp_path / "lerobot", version=version)
    assert (summary.num_episodes, summary.num_frames) == (3, sum(LENGTHS))
    assert summary.left_out == ("camera.npz", "state.npz: friction")
    import_lerobot(tmp_path / "lerobot", tmp_path / "back")
    after = ShardIndex.open(tmp_path / "back")
    ids = [row["id"] for row in after.manifest().to_pylist()]
    for old, new in zip(("b0", "a1", "c2"), ids, strict=True):
        same = [name for name in before.members(old) if name.endswith("mp4")] + ["action.npz"]
        for member in same:
            assert before.read(old, member) == after.read(new, member), member
        state = read_npz(before.read(old, "state.npz"), "")
        back = read_npz(after.read(new, "state.npz"), "")
        assert set(back) == set(state) - {"friction"}
        for name, values in back.items():
            np.testing.assert_array_equal(values, state[name])
            assert values.dtype == state[name].dtype
        was, facts = before.metadata(old), after.metadata(new)
        changed = {key for key, value in was.items() if facts[key] != value}
        assert changed == {"id"}
    # A second journey changes nothing at all but the name of the folder it came from.
    export_lerobot(after.root, tmp_path / "again", version=version)
    import_lerobot(tmp_path / "again", tmp_path / "back_again")
    again = ShardIndex.open(tmp_path / "back_again")
    assert again.keys == after.keys and again.sources == after.sources
    for key in after.keys:
        for member in set(after.members(key)) - {"json"}:
            assert again.read(key, member) == after.read(key, member)


def test_sources_stay_together(tmp_path: Path) -> None:
    export_lerobot(write_clips(tmp_path / "shards"), tmp_path / "lerobot")
    import_lerobot(tmp_path / "lerobot", tmp_path / "back")
    rows = ShardIndex.open(tmp_path / "back").manifest().to_pylist()
    assert [row["source"] for row in rows] == ["group0", "group0", "group1"]


def test_the_info_adds_up(tmp_path: Path) -> None:
    shards = write_clips(tmp_path / "shards", ("front", "wrist"))
    for version, more in (("v2.1", {"total_videos": 6, "total_chunks": 1}), ("v3.0", {})):
        root = tmp_path / version
        export_lerobot(shards, root, version=version, robot_type="arm")
        info = read_json(root / "meta" / "info.json")
        want = {"total_episodes": 3, "total_frames": 23, "total_tasks": 2, "fps": 5, **more}
        assert {key: info[key] for key in want} == want and info["robot_type"] == "arm"
        assert info["features"]["action"]["names"] == [f"joint{i}" for i in range(7)]
        assert info["features"]["phase"]["dtype"] == "string"
        assert info["features"]["pose"]["shape"] == [2, 3]
        assert len(list(root.rglob("*.mp4"))) == 6


def test_statistics_of_all_episodes_are_those_of_all_frames(tmp_path: Path) -> None:
    index = ShardIndex.open(write_clips(tmp_path / "shards"))
    export_lerobot(index.root, tmp_path / "lerobot")
    stats = read_json(tmp_path / "lerobot" / "meta" / "stats.json")
    actions, frames = [], []
    for key in ("b0", "a1", "c2"):
        values = read_action(index.read(key, "action.npz")).values
        actions.append(np.concatenate([values, values[-1:]]))
        frames.append(decode_clip(index.read(key, "mp4"), key) / 255.0)
    for key, every, axes in (
        ("action", np.concatenate(actions), (0,)),
        ("observation.images.main", np.concatenate(frames), (0, 1, 2)),
    ):
        for name in ("min", "max", "mean", "std"):
            found = np.ravel(stats[key][name])
            np.testing.assert_allclose(found, getattr(every, name)(axes), atol=1e-12)
        assert stats[key]["count"] == [23]
    assert "phase" not in stats


def test_data_files_are_split_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_files, "DATA_MB", 1e-3)
    monkeypatch.setattr(lerobot_files, "CHUNK_SIZE", 2)
    before = ShardIndex.open(write_clips(tmp_path / "shards"))
    for version in ("v2.1", "v3.0"):
        root = tmp_path / version
        export_lerobot(before.root, root, version=version)
        assert len(list((root / "data").rglob("*.parquet"))) == 3
        assert {path.name for path in (root / "data").iterdir()} == {"chunk-000", "chunk-001"}
        assert import_lerobot(root, tmp_path / f"back {version}").num_kept == 3


BAD = {
    "no_action": (True, "clip a1: has no action.npz"),
    "fps": (10.0, "clip a1: fps=10: the first has 5"),
    "size": ((48, 48), "clip a1: observation.images.main: .*48, 48.*the first clip has"),
    "rate": (30.0, r"clip a1: action.rate=30: must be its fps, 5"),
    "steps": (3, "clip a1: 3 actions of 6 frames; must be 5 or 6"),
}


@pytest.mark.parametrize("key", BAD)
def test_a_clip_that_does_not_fit_is_named_and_nothing_is_left(key: str, tmp_path: Path) -> None:
    value, message = BAD[key]
    shards = write_clips(tmp_path / "shards", **{key: value})
    with pytest.raises(ValueError, match=message):
        export_lerobot(shards, tmp_path / "lerobot")
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    shards = write_clips(tmp_path / "shards")
    with pytest.raises(ValueError, match="exists"):
        export_lerobot(shards, shards)
    with pytest.raises(ValueError, match="version=v1.6: must be one of v2.1, v3.0"):
        export_lerobot(shards, tmp_path / "out", version="v1.6")


def _interpreter(version: str) -> str:
    """A Python that has the package of this version; skips when there is none."""
    package = {"v3.0": "ledataset", "v2.1": "lerobot"}[version]
    named = os.environ.get(f"OPENWFM_LEROBOT_{version.replace('.', '').upper()}")
    if named is None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return named or sys.executable


@pytest.mark.slow
@versions
@pytest.mark.parametrize("views", [("main",), ("front", "wrist")])
def test_the_real_package_reads_it(version: str, views: tuple[str, ...], tmp_path: Path) -> None:
    python = _interpreter(version)
    index = ShardIndex.open(write_clips(tmp_path / "shards", views))
    export_lerobot(index.root, tmp_path / "lerobot", version=version, robot_type="arm")
    script = [python, str(HERE / "read_with_lerobot.py")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [*script, str(tmp_path / "lerobot"), str(tmp_path / "read.npz")],
        capture_output=True, text=True, timeout=250, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "read.npz", allow_pickle=False) as file:
        read = {key: file[key] for key in file.files}
    assert (read["num_episodes"], read["num_frames"], read["fps"]) == (3, 23, 5)
    assert str(read["robot_type"]) == "arm"
    start = 0
    for i, (key, length) in enumerate(zip(("b0", "a1", "c2"), LENGTHS, strict=True)):
        part = {k: v[start : start + length] for k, v in read.items() if v.shape[:1] == (23,)}
        values = read_action(index.read(key, "action.npz")).values
        # The package reads float64 columns as float32 tensors or as they are, by its version.
        np.testing.assert_allclose(part["action"][:-1], values, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(part["action"][-1], part["action"][-2])
        state = read_npz(index.read(key, "state.npz"), "")
        for name in ("pose", "success", "num_contacts", "phase"):
            np.testing.assert_array_equal(part[name], state[name])
        assert set(part["task"]) == {f"Push block {i % 2}."}
        assert (part["episode_index"] == i).all()
        np.testing.assert_allclose(part["timestamp"], np.arange(length) / 5, atol=1e-6)
        for view in views:
            member = "mp4" if view == "main" else f"{view}.mp4"
            frames = decode_clip(index.read(key, member), key).transpose(0, 3, 1, 2) / 255
            np.testing.assert_allclose(
                part[f"observation.images.{view}"], frames, atol=3 / 255
            )  # two builds of ffmpeg convert YUV to RGB
        start += length
    every = read["action"].astype(float)
    np.testing.assert_allclose(read["stats/action/mean"], every.mean(0), atol=1e-6)
    np.testing.assert_allclose(read["stats/action/std"], every.std(0), atol=1e-6)
