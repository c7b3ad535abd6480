"""Real small LeRobot datasets into shards: v2.1 written by lerobot 0.3.3, v3.0 by lerobot-dataset
0.4.4 (`write_with_lerobot.py`)."""

import json
from pathlib import Path

import numpy as np
import pytest

from openwfm.config import compose
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.importers.lerobot import import_lerobot
from openwfm.data.importers.lerobot_stats import QUANTILES, column_stats, merge_stats, picture_stats
from openwfm.data.members import read_action, read_npz
from openwfm.data.shards import ShardIndex
from openwfm.data.windows import decode_clip
from openwfm.files import read_json, sha256_file
from openwfm.video import read_video
from tests.data.importers.write_with_lerobot import FEATURES, FPS, LENGTHS, TASKS, episode

FIXTURES = Path(__file__).parent / "fixtures"
both = pytest.mark.parametrize("version", ["v21", "v30"])


@both
def test_every_value_and_picture_arrives(version: str, tmp_path: Path) -> None:
    summary = import_lerobot(FIXTURES / version, tmp_path)
    assert (summary.num_episodes, summary.num_kept, summary.num_frames) == (3, 3, sum(LENGTHS))
    index = ShardIndex.open(tmp_path)
    index.verify()
    rows = index.manifest().to_pylist()
    assert [row["path"] for row in rows] == [f"{version}/{i:06d}" for i in range(3)]
    for i, row in enumerate(rows):
        truth, facts = episode(i), index.metadata(row["id"])
        assert facts["caption"] == facts["facts"]["instruction"] == TASKS[i] == row["caption"]
        assert facts["views"] == ["top", "wrist"] and facts["num_frames"] == LENGTHS[i]
        assert facts["end_seconds"] == LENGTHS[i] / FPS and facts["kind"] == "robot"
        action = read_action(index.read(row["id"], "action.npz"))
        np.testing.assert_array_equal(action.values, truth["action"][:-1])
        assert action.names == ("x", "y", "gripper") and action.rate == FPS
        state = read_npz(index.read(row["id"], "state.npz"), "state.npz")
        np.testing.assert_array_equal(state.pop("last_action"), truth["action"][-1:])
        columns = [
            key for key, feature in FEATURES.items() if feature["dtype"] in ("float32", "bool")
        ]
        assert set(state) == set(columns) - {"action"}
        for key, values in state.items():
            want = truth[key][:, 0] if truth[key].shape[1:] == (1,) else truth[key]
            np.testing.assert_array_equal(values, want)
        top = decode_clip(index.read(row["id"], "top.mp4"), "top")
        wrist = decode_clip(index.read(row["id"], "wrist.mp4"), "wrist")
        # AV1 at lerobot's quality (crf 30) and 4:2:0 colour blur the edges of the square.
        assert _error(top, truth["observation.images.top"]) < 8
        # 31x33 pictures are padded to 32x34 by repeating the edge.
        assert wrist.shape[1:3] == (32, 34) and facts["facts"]["padding"] == {"wrist": [1, 1]}
        assert _error(wrist[:, :31, :33], truth["observation.images.wrist"]) < 5
        assert _error(wrist[:, 31, :33], truth["observation.images.wrist"][:, 30]) < 5


def _error(frames: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(frames.astype(float) - truth).mean())


def test_frames_of_a_shared_file_belong_to_their_episode(tmp_path: Path) -> None:
    """In v3.0 the three episodes are in one mp4: each frame must be nearest to its own."""
    import_lerobot(FIXTURES / "v30", tmp_path, cameras=["top"])
    index = ShardIndex.open(tmp_path)
    rows = index.manifest().to_pylist()
    file = FIXTURES / "v30" / "videos" / "observation.images.top" / "chunk-000" / "file-000.mp4"
    truth = read_video(file)[0].numpy()
    seen = np.concatenate([decode_clip(index.read(row["id"], "mp4"), "") for row in rows])
    distance = np.abs(seen[:, None].astype(float) - truth[None]).mean((2, 3, 4))
    assert distance.argmin(1).tolist() == list(range(sum(LENGTHS)))


@both
def test_equal_folders_give_equal_files(version: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        import_lerobot(FIXTURES / version, tmp_path / name, max_samples=2)
    one, other = (
        {str(p.relative_to(tmp_path / n)): sha256_file(p) for p in (tmp_path / n).rglob("*.*")}
        for n in ("a", "b")
    )
    assert one == other and sum(name.endswith(".tar") for name in one) == 2


def test_cameras_and_episodes_can_be_chosen(tmp_path: Path) -> None:
    for i, camera in enumerate(("wrist", "observation.images.wrist")):
        out = tmp_path / str(i)
        summary = import_lerobot(FIXTURES / "v21", out, cameras=[camera], max_episodes=2)
        assert summary.num_episodes == 2
        index = ShardIndex.open(out)
        assert index.members(index.keys[0]) == ("action.npz", "json", "mp4", "state.npz")
        facts = index.metadata(index.keys[0])
        assert facts["views"] == ["main"] and (facts["width"], facts["height"]) == (34, 32)
    with pytest.raises(ValueError, match="cameras: left: no such camera.*images.top"):
        import_lerobot(FIXTURES / "v21", tmp_path / "x", cameras=["left"])
    with pytest.raises(ValueError, match="action=joints: no such column.*observation.state"):
        import_lerobot(FIXTURES / "v21", tmp_path / "x", action="joints")
    import_lerobot(FIXTURES / "v21", tmp_path / "y", action="observation.state")
    index = ShardIndex.open(tmp_path / "y")
    track = read_action(index.read(index.keys[0], "action.npz"))
    assert track.names == ("a", "b", "c", "gripper")


def test_imported_shards_train_through_the_data_module(tmp_path: Path) -> None:
    import_lerobot(
        FIXTURES / "v30", tmp_path, cameras=["top"],
        embed=lambda text: np.full((len(text.split()), 4), 0.5), text_encoder="words",
    )  # fmt: skip
    index = ShardIndex.open(tmp_path)
    assert {row["text_encoder"] for row in index.manifest().to_pylist()} == {"words"}
    assert "text.npy" in index.members(index.keys[0])
    config = DataConfig(
        shards=str(tmp_path), num_frames=5, batch_size=2, kinds=("robot",), split=(1.0, 0.0, 0.0),
    )  # fmt: skip
    batch = next(iter(ShardDataModule(config=config).train_dataloader()))
    assert batch.video is not None and batch.video.shape == (2, 3, 5, 32, 48)


def test_statistics_are_those_of_the_package() -> None:
    """Against what lerobot 0.3.3 wrote into ``episodes_stats.jsonl``, and their aggregate of 0.4.4
    in ``stats.json``."""
    lines = (FIXTURES / "v21" / "meta" / "episodes_stats.jsonl").read_text().splitlines()
    parts: dict[str, list[dict[str, np.ndarray]]] = {}
    for i, line in enumerate(lines):
        for key, values in episode(i).items():
            values = values[:, 0] if values.shape[1:] == (1,) else values
            picture = FEATURES[key]["dtype"] in ("video", "image")
            mine = picture_stats(values) if picture else column_stats(values)
            parts.setdefault(key, []).append(mine)
            _compare(mine, json.loads(line)["stats"][key])
    merged = read_json(FIXTURES / "v30" / "meta" / "stats.json")
    del parts["touch"]  # 0.4.4 takes tables together, 0.3.3 keeps their shape, as we do
    for key, stats in parts.items():
        # 0.4.4 squares pictures in uint8, which overflows: its std of the wrist camera's red is 0.
        # Ours is compared with that of 0.3.3, above and here by numpy.
        picture = FEATURES[key]["dtype"] in ("video", "image")
        _compare(merge_stats(stats), merged[key], ("std",) if picture else ())
        if picture:
            every = np.concatenate([episode(i)[key] for i in range(3)]) / 255.0
            std = merge_stats(stats)["std"].ravel()
            np.testing.assert_allclose(std, every.std((0, 1, 2)), atol=0.01)


def test_quantiles_of_pictures_are_exact() -> None:
    frames = np.random.default_rng(0).integers(0, 200, (7, 5, 4, 3)).astype(np.uint8)
    stats = picture_stats(frames)
    for name, share in QUANTILES.items():
        want = np.quantile(frames / 255.0, share, axis=(0, 1, 2))
        np.testing.assert_allclose(stats[name].ravel(), want, atol=1e-12)
    assert stats["q50"].shape == (3, 1, 1)


def _compare(
    mine: dict[str, np.ndarray], theirs: dict[str, list], but: tuple[str, ...] = ()
) -> None:
    for name in {"min", "max", "mean", "std", "count"} - set(but):
        np.testing.assert_allclose(mine[name], np.array(theirs[name], float), atol=1e-6)


def test_the_command_converts_there_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from openwfm.commands import convert

    folders = [f"in={FIXTURES / 'v30'}", f"out={tmp_path / 'shards'}"]
    config = compose("convert", [*folders, "text_encoder=null", "cameras=[top]"])
    assert convert.main(config) == 0
    assert "3 episodes: 3 kept (18 frames), 0 rejected" in capsys.readouterr().out
    folders = [f"in={tmp_path / 'shards'}", f"out={tmp_path / 'back'}"]
    assert convert.main(compose("convert", ["kind=to_lerobot", "version=v2.1", *folders])) == 0
    assert read_json(tmp_path / "back" / "meta" / "info.json")["codebase_version"] == "v2.1"
    with pytest.raises(ValueError, match=r"convert.version=v1: must be one of v2.1, v3.0"):
        convert.main(compose("convert", ["kind=to_lerobot", "version=v1", *folders]))
    with pytest.raises(ValueError, match="kind=rlds: must be one of lerobot, to_lerobot"):
        convert.main(compose("convert", ["kind=rlds", *folders]))
