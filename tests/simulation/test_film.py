"""Worlds into shards: order, parallel workers, rejections, killed workers, resumption."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.members import read_action, read_camera, read_npz
from openwfm.data.shards import ShardIndex
from openwfm.files import sha256_file
from openwfm.simulation import film
from openwfm.simulation.config import LongTakesConfig, SimulationConfig
from openwfm.simulation.film import film_world
from openwfm.simulation.longtakes import film_long_takes
from openwfm.video import read_video
from tests.simulation.toy import ToyConfig, ToyWorld


@pytest.fixture(autouse=True)
def _no_gl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "choose_backend", lambda: "none")


def simulation(out: Path, **values: object) -> SimulationConfig:
    return SimulationConfig(**{"out": str(out), "num_clips": 7, "text_encoder": None} | values)  # type: ignore[arg-type]


def files(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_every_clip_is_kept_or_rejected_and_reads_back(tmp_path: Path) -> None:
    world = ToyConfig(bad=(3,), same=(1, 5))
    summary = film_world(simulation(tmp_path, seed=4), world)
    assert (summary.num_clips, summary.kept, summary.rejected, summary.filmed) == (7, 5, 2, 7)
    index = ShardIndex.open(tmp_path)
    index.verify()
    rows = index.manifest().to_pylist()
    assert [row["status"] for row in rows] == [
        "kept", "kept", "kept", "rejected", "kept", "rejected", "kept",
    ]  # fmt: skip
    assert rows[3]["reason"] == "unstable" and rows[3]["detail"] == "clip 3 exploded"
    assert rows[5]["reason"] == "duplicate" and "clip 1" in rows[5]["detail"]
    expected = ToyWorld(world, 4).film(6)
    key = rows[6]["id"]
    facts = index.metadata(key)
    assert facts["caption"] == expected.caption and facts["facts"] == {"index": 6}
    action = read_action(index.read(key, "action.npz"))
    np.testing.assert_array_equal(action.values, expected.action.values)  # type: ignore[union-attr]
    camera = read_camera(index.read(key, "camera.npz"))["main"]
    np.testing.assert_array_equal(camera.camera_to_world, expected.cameras["main"].camera_to_world)
    mask = read_npz(index.read(key, "mask.npz"), "mask.npz")
    np.testing.assert_array_equal(mask["main"], expected.masks["main"])
    # Clips of one group share a source, so no split tears them apart.
    assert rows[0]["source"] == rows[1]["source"] != rows[2]["source"]


def test_twins_of_a_group_that_look_alike_are_both_kept(tmp_path: Path) -> None:
    world = ToyConfig(same=(2, 3, 6))
    summary = film_world(simulation(tmp_path), world)
    rows = ShardIndex.open(tmp_path).manifest().to_pylist()
    assert (summary.kept, rows[3]["status"], rows[6]["status"]) == (6, "kept", "rejected")
    assert rows[2]["id"] != rows[3]["id"]


def test_shards_train_through_the_data_module(tmp_path: Path) -> None:
    film_world(simulation(tmp_path, num_clips=16), ToyConfig())
    config = DataConfig(shards=str(tmp_path), num_frames=9, batch_size=2, kinds=("simulated",))
    batch = next(iter(ShardDataModule(config=config).train_dataloader()))
    assert batch.video is not None and batch.video.shape == (2, 3, 9, 32, 48)


@pytest.mark.parametrize("views", [("main",), ("left", "right")])
def test_files_do_not_depend_on_workers(tmp_path: Path, views: tuple[str, ...]) -> None:
    world = ToyConfig(bad=(2,), views=views)
    for name, workers in (("one", 1), ("two", 2)):
        film_world(simulation(tmp_path / name, workers=workers), world)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    again = film_world(simulation(tmp_path / "one", workers=2), world)
    assert again.filmed == 0 and again.kept == 6


def test_a_killed_worker_is_an_error_and_the_next_run_goes_on(tmp_path: Path) -> None:
    world = ToyConfig(dies=4, marker=str(tmp_path / "died"))
    config = simulation(tmp_path / "out", workers=2)
    with pytest.raises(RuntimeError, match="a worker process was killed"):
        film_world(config, world)
    assert not (tmp_path / "out" / "index.json").exists()
    with pytest.raises(ValueError, match="no such file"):
        ShardIndex.open(tmp_path / "out")
    assert film_world(config, world).kept == 7
    film_world(simulation(tmp_path / "fresh"), replace(world, dies=None, marker=""))
    shards = [p for p in files(tmp_path / "fresh") if p.endswith((".tar", ".parquet"))]
    here, fresh = files(tmp_path / "out"), files(tmp_path / "fresh")
    assert shards and {p: here[p] for p in shards} == {p: fresh[p] for p in shards}


def test_another_config_is_refused_and_named(tmp_path: Path) -> None:
    film_world(simulation(tmp_path), ToyConfig())
    with pytest.raises(ValueError, match="seed=0, not 1"):
        film_world(simulation(tmp_path, seed=1), ToyConfig())
    with pytest.raises(ValueError, match="bad"):
        film_world(simulation(tmp_path), ToyConfig(bad=(1,)))


def test_a_full_disk_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(*arguments: object, **keywords: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        save(*arguments, **keywords)  # type: ignore[arg-type]

    save = np.savez
    monkeypatch.setattr(film.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        film_world(simulation(tmp_path), ToyConfig())
    monkeypatch.undo()
    monkeypatch.setattr(film, "choose_backend", lambda: "none")
    assert not (tmp_path / "index.json").exists()
    assert sorted(p.name for p in (tmp_path / ".work").iterdir()) == ["000000.npz", "000001.npz"]
    assert film_world(simulation(tmp_path), ToyConfig()).filmed == 5


def test_long_takes_carry_their_answers(tmp_path: Path) -> None:
    config = simulation(tmp_path, workers=1)
    summary = film_long_takes(config, ToyConfig(bad=(1,)), LongTakesConfig(shots_per_take=4))
    assert (summary.num_takes, summary.filmed, summary.num_frames) == (2, 2, 6 * 9)
    video, fps = read_video(tmp_path / "raw" / "take_000000.mp4")
    assert len(video) == 27 and fps == 12
    answers = json.loads((tmp_path / "answers" / "answers.json").read_text())
    assert [answer["cuts"] for answer in answers] == [[9, 18], [9, 18]]
    assert answers[0]["rejected"][0]["clip"] == 1
    sidecar = json.loads((tmp_path / "raw" / "take_000000.json").read_text())
    assert [shot["start"] for shot in sidecar["shots_captions"]] == [0, 9, 18]
    assert (
        film_long_takes(config, ToyConfig(bad=(1,)), LongTakesConfig(shots_per_take=4)).filmed == 0
    )
