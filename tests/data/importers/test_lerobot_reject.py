"""Broken LeRobot datasets: an episode is rejected with a reason, a dataset with a sentence."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openwfm.data.importers.lerobot import import_lerobot
from openwfm.data.shards import ShardIndex
from openwfm.files import read_json, write_json
from openwfm.video import read_video, write_video

FIXTURES = Path(__file__).parent / "fixtures"
ROWS = "data/chunk-000/episode_000001.parquet"
VIDEO = "videos/chunk-000/observation.images.top/episode_000001.mp4"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A v2.1 dataset of three episodes to break."""
    return Path(shutil.copytree(FIXTURES / "v21", tmp_path / "broken"))


def _table(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda root: pq.write_table(change(pq.read_table(root / ROWS)), root / ROWS)


def _column(key: str, change: Callable[[list], list]) -> Callable[[Path], None]:
    def apply(table: pa.Table) -> pa.Table:
        field = table.schema.field(key)
        values = pa.array(change(table.column(key).to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(key), field, values)

    return _table(apply)


def _video(start: int, stop: int, fps: float, repeat: int = 1) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        frames = read_video(root / VIDEO)[0]
        write_video(root / VIDEO, torch.cat([frames] * repeat)[start:stop], fps)

    return apply


def _note(value: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        file = root / "meta" / "episodes.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[1]["openwfm"] = value
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return apply


NAN = float("nan")
BROKEN_EPISODES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no video": (lambda root: (root / VIDEO).unlink(), "video_missing", "no such file"),
    "garbage for a video": (
        lambda root: (root / VIDEO).write_bytes(b"nothing"), "video_corrupt", "does not decode",
    ),
    "a truncated video": (
        lambda root: (root / VIDEO).write_bytes((root / VIDEO).read_bytes()[:800]),
        "video_corrupt", "does not decode",
    ),
    "a video too short": (_video(0, 4, 10), "video_length", "4 frames, but 5 rows"),
    "a video too long": (_video(0, 6, 10, 2), "video_length", "6 frames, but 5 rows"),
    "a video of another rate": (_video(0, 5, 20), "fps", "20 frames a second.*says 10"),
    "no rows": (lambda root: (root / ROWS).unlink(), "data", "no such file"),
    "garbage for rows": (
        lambda root: (root / ROWS).write_bytes(b"nothing"), "data", "not a readable parquet",
    ),
    "a row less": (_table(lambda t: t.slice(0, 4)), "length", "4 rows.*length is 5"),
    "rows of another episode": (
        _column("episode_index", lambda c: [2] * len(c)), "length", "0 rows",
    ),
    "rows in another order": (_column("frame_index", lambda c: c[::-1]), "order", "count from 0"),
    "other times": (_column("timestamp", lambda c: [2 * t for t in c]), "fps", "10 a second"),
    "no column of actions": (_table(lambda t: t.drop(["action"])), "columns", "action"),
    "actions with NaN": (
        _column("action", lambda c: [[NAN] * 3, *c[1:]]), "columns", "must be .* finite",
    ),
    "a last action with NaN": (
        _column("action", lambda c: [*c[:-1], [NAN] * 3]), "columns", "last one is not finite",
    ),
    "gaps in the state": (_column("next.reward", lambda c: [None, *c[1:]]), "columns", "gaps"),
    "an unknown task": (_column("task_index", lambda c: [7] * len(c)), "task", "task_index=7"),
    "a picture that is none": (
        _column(
            "observation.images.wrist", lambda c: [c[0] | {"bytes": b"no picture"}, *c[1:]]
        ),
        "picture", "does not decode",
    ),
    "a picture elsewhere": (
        _column("observation.images.wrist", lambda c: [c[0] | {"bytes": None}, *c[1:]]),
        "picture", "not in the table",
    ),
    "a note that is no JSON": (_note("{"), "note", "no JSON"),
    "a note of wrong types": (_note('{"tags": 3}'), "note", "tags: must be of type list"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_EPISODES)
def test_a_broken_episode_is_rejected_and_the_rest_goes_on(
    case: str, broken: Path, tmp_path: Path
) -> None:
    damage, reason, detail = BROKEN_EPISODES[case]
    damage(broken)
    summary = import_lerobot(broken, tmp_path / "out")
    assert (summary.num_episodes, summary.num_kept, summary.num_rejected) == (3, 2, 1)
    assert summary.reasons == {reason: 1}
    rows = ShardIndex.open(tmp_path / "out").manifest().to_pylist()
    assert [row["status"] for row in rows] == ["kept", "rejected", "kept"]
    assert rows[1]["reason"] == reason and rows[1]["stage"] == "import"
    assert re.search(detail, rows[1]["detail"]), rows[1]["detail"]


def test_an_episode_twice_is_a_duplicate(broken: Path, tmp_path: Path) -> None:
    folder = broken / "videos" / "chunk-000" / "observation.images.top"
    shutil.copy(folder / "episode_000000.mp4", folder / "episode_000002.mp4")
    first = pq.read_table(broken / "data/chunk-000/episode_000000.parquet")
    table = first.set_column(
        first.schema.get_field_index("episode_index"),
        first.schema.field("episode_index"),
        pa.array(np.full(len(first), 2)),
    )
    pq.write_table(table, broken / "data/chunk-000/episode_000002.parquet")
    file = broken / "meta" / "episodes.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[2]["length"] = rows[0]["length"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = import_lerobot(broken, tmp_path / "out")
    assert summary.reasons == {"duplicate": 1}


INFO_ERRORS = {
    "codebase_version": ("v1.6", "codebase_version=v1.6: must be one of v2.1, v3.0"),
    "fps": (0, "fps=0.0: must be above 0"),
    "total_episodes": (4, "3 episodes, but total_episodes=4"),
    "data_path": ("../{episode_index}.parquet", "data_path gives ../0.parquet: leads out"),
    "video_path": ("/etc/{video_key}", "leads out of the folder"),
    "features": ({"action": {}}, "not the info of a LeRobot dataset"),
}


@pytest.mark.parametrize("key", INFO_ERRORS)
def test_a_broken_dataset_is_an_error(key: str, broken: Path, tmp_path: Path) -> None:
    value, message = INFO_ERRORS[key]
    info = read_json(broken / "meta" / "info.json")
    write_json(broken / "meta" / "info.json", info | {key: value})
    with pytest.raises(ValueError, match=message):
        import_lerobot(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_template_with_unknown_fields_is_an_error(broken: Path, tmp_path: Path) -> None:
    info = read_json(broken / "meta" / "info.json")
    write_json(broken / "meta" / "info.json", info | {"data_path": "data/{nobody}.parquet"})
    with pytest.raises(ValueError, match="data_path=data/{nobody}.parquet: cannot be filled"):
        import_lerobot(broken, tmp_path / "out")


@pytest.mark.parametrize("file", ["tasks.jsonl", "episodes.jsonl"])
def test_missing_or_unreadable_metadata_is_named(file: str, broken: Path, tmp_path: Path) -> None:
    (broken / "meta" / file).write_text("{")
    with pytest.raises(ValueError, match=f"{file}: not lines of JSON"):
        import_lerobot(broken, tmp_path / "out")
    (broken / "meta" / file).unlink()
    with pytest.raises(ValueError, match=f"{file}: no such file"):
        import_lerobot(broken, tmp_path / "out")


def test_metadata_of_v30_is_checked_too(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "v30", tmp_path / "broken"))
    file = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop(["length"]), file)
    with pytest.raises(ValueError, match="an episode lacks 'length'"):
        import_lerobot(root, tmp_path / "out")
    column = "videos/observation.images.top/to_timestamp"
    late = pa.array([0.7, 1.4, 1.8])
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, late), file)
    summary = import_lerobot(root, tmp_path / "out")
    assert summary.reasons == {"video_length": 1}


def test_places_that_would_be_overwritten_are_refused(broken: Path, tmp_path: Path) -> None:
    for out in (broken, broken / "shards", tmp_path):
        with pytest.raises(ValueError, match="must lie outside"):
            import_lerobot(broken, out)
    import_lerobot(broken, tmp_path / "out", cameras=["top"], max_episodes=1)
    with pytest.raises(ValueError, match="holds finished shards"):
        import_lerobot(broken, tmp_path / "out")
    with pytest.raises(ValueError, match="no LeRobot dataset"):
        import_lerobot(tmp_path / "nothing", tmp_path / "x")
    with pytest.raises(ValueError, match="max_episodes=0: must be at least 1"):
        import_lerobot(broken, tmp_path / "x", max_episodes=0)
