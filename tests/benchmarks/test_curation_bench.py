"""The arithmetic of the curation benchmark, and a start that loads and does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openwfm.benchmarks import curation as bench
from openwfm.benchmarks.curation import CurationBenchConfig, measure_start
from openwfm.config import build, compose
from openwfm.curation.stages import Phases


def runs(*seconds_and_start: tuple[float, float]) -> list[dict]:
    facts = {"clips": 12, "frames": 600, "video_seconds": 24.0}
    return [{**facts, "seconds": s, "start": start} for s, start in seconds_and_start]


def test_engines_are_compared_without_their_start() -> None:
    rows = bench._engines(
        {
            "one": runs((105, 5), (65, 5), (85, 5)),
            "two": runs((60, 10), (40, 10), (50, 10)),
            "ray": runs((70, 20), (50, 20), (60, 20)),
        }
    )
    assert [row["seconds"] for row in rows] == [85, 50, 60]
    assert [row["start"] for row in rows] == [5, 10, 20]
    assert [row["against_1_worker"] for row in rows] == [1, 2, 2]  # 100/50, 60/30, 80/40
    assert rows[2]["against_local"] == 1 and rows[0]["real_time_factor"] == 24 / 85


def test_a_start_loads_both_phases_once(tmp_path, monkeypatch) -> None:
    loaded = []

    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        def setup(self) -> None:
            loaded.append(self.name)

    phases = Phases(measure=(Model("a"), Model("b")), caption=(Model("c"),))
    monkeypatch.setattr(bench, "build_phases", lambda _: phases)
    config = build(compose("curate", [f"in={tmp_path}", f"out={tmp_path}x"]).curation)
    assert 0 < measure_start(replace(config, workers=1)) < 60
    assert loaded == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["num_takes", "repeats", "workers", "longer", "minutes", "fps"])
def test_settings_are_checked(name) -> None:
    with pytest.raises(ValueError, match=f"{name}=0"):
        CurationBenchConfig(**{name: 0})


@pytest.mark.parametrize("parts", [[], ["engine"]])
def test_parts_are_known(parts) -> None:
    with pytest.raises(ValueError, match="must be some of engines, memory"):
        CurationBenchConfig(parts=tuple(parts))
