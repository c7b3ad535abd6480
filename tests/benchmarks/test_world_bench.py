"""The benchmark of worlds one can enter, on a world that costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openwfm.benchmarks import world as bench
from openwfm.benchmarks.world import WorldBenchConfig, bench_world, forks, moves, one_step, planning
from openwfm.benchmarks.world_memory import _walk
from openwfm.cli import main
from openwfm.files import read_json
from openwfm.world import World
from openwfm.world.action import ActionWorld
from openwfm.world.session import Session
from tests.world.conftest import publish
from tests.world.test_action_world import publish_action


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_action(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def world(folder: Path) -> ActionWorld:
    found = World.load(folder)
    assert isinstance(found, ActionWorld)
    return found


def config(folder: Path | None, **values: object) -> WorldBenchConfig:
    return WorldBenchConfig(
        world=None if folder is None else str(folder), quick=True, repeats=1, **values
    )  # type: ignore[arg-type]


def test_figures_of_a_step_fit_together(world: ActionWorld, folder: Path) -> None:
    row = one_step(world, 2, config(folder))
    assert row["sampler_steps"] == 2 and row["steps"] == 10
    assert row["p50_ms"] <= row["p95_ms"]
    assert 0.5 * 1e3 / row["p95_ms"] < row["frames_per_second"]
    shares = [row["of_network"], row["of_decoder"], row["other"]]
    assert min(shares) >= 0 and sum(shares) == pytest.approx(1)
    assert row["of_network"] > 0 and row["of_decoder"] > 0


def test_moves_are_within_their_bounds(world: ActionWorld) -> None:
    drawn = moves(world, 500)
    assert drawn.shape == (500, 2)
    assert float(drawn.min()) >= -1 and float(drawn.max()) <= 1
    assert float(drawn.min()) < -0.9 and float(drawn.max()) > 0.9
    assert torch.equal(drawn, moves(world, 500))


def test_futures_are_the_same_alone_and_together(
    world: ActionWorld, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {"forks_mib": 1.0, "worlds_mib": 2.0}
    monkeypatch.setattr(bench, "memory_of_many", lambda *arguments: memory)
    row = forks(world, 3, config(folder))
    assert row["number"] == 3 and row["difference"] <= bench.TOLERANCE
    assert row["fork_ms"] < row["worlds_ms"]
    rows = planning(world, config(folder))
    assert [each["candidates"] for each in rows] == list(bench.CANDIDATES[:2])
    for each in rows:
        ratio = each["per_second"] / each["forked_alone_per_second"]
        assert each["faster_than_forked"] == pytest.approx(ratio)


def test_a_batch_that_differs_is_found_out(
    world: ActionWorld, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Session.step

    def leaks(self: Session, actions: torch.Tensor) -> torch.Tensor:
        frames = step(self, actions)
        return frames + 0.01 * (len(self) > 1)

    monkeypatch.setattr(Session, "step", leaks)
    with pytest.raises(AssertionError, match="3 forks differ from rows alone"):
        forks(world, 3, config(folder))


def test_memory_is_read_after_each_tenth(folder: Path) -> None:
    rows = _walk(str(folder), 20)
    assert [row["steps"] for row in rows] == list(range(3, 22, 2))
    assert all(row["finite"] for row in rows)
    assert all(row["growth_mib"] <= row["peak_mib"] for row in rows)


def test_a_part_leaves_the_others_in_the_file(folder: Path, tmp_path: Path) -> None:
    given = ["bench", "world", f"weights={folder}", "quick=true", "repeats=1", f"out={tmp_path}"]
    assert main([*given, "tables=[planning]"]) == 0
    before = read_json(tmp_path / "world.json")["planning"]
    assert main([*given, "tables=[steps]", "seed=3"]) == 0
    found = read_json(tmp_path / "world.json")
    assert found["planning"] == before and len(found["steps"]) == 3
    assert found["settings"]["planning"]["seed"] == 0 and found["settings"]["steps"]["seed"] == 3


def test_bad_values_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tables=\\['dance'\\]: must be some of steps"):
        config(folder, tables=("dance",))
    with pytest.raises(ValueError, match="num_steps=0"):
        config(folder, num_steps=0)
    with pytest.raises(ValueError, match="weights: missing"):
        next(iter(bench_world(config(None))))
    with pytest.raises(ValueError, match="must be an action world"):
        next(iter(bench_world(config(publish(tmp_path) / "weights"))))
