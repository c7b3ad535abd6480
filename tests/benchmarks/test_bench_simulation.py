"""The simulation benchmark, on a world that costs nothing."""

import pytest

from openwfm.benchmarks import simulation
from openwfm.benchmarks.simulation import SimulationBenchConfig, bench_simulation, measure
from openwfm.simulation import film
from tests.simulation.toy import ToyConfig


@pytest.fixture(autouse=True)
def _no_gl(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    for module in (film, simulation):
        monkeypatch.setattr(module, "choose_backend", lambda: "none")


def test_every_view_counts_and_shares_add_up() -> None:
    result = measure(ToyConfig(views=("left", "right"), bad=(1,)), 4, 0)
    assert result["views"] == 2 and result["frame"] == "48x32" and result["rejected"] == 1
    assert result["frames_per_second"] > 0
    assert sum(result["shares"].values()) == pytest.approx(1, abs=1e-6)
    assert result["shares"]["encoding"] > 0 and result["peak_mib"] > 10


def test_a_world_that_rejects_everything_is_named() -> None:
    with pytest.raises(ValueError, match="num_clips=1: every clip of toy was rejected"):
        measure(ToyConfig(bad=(0,)), 1, 0)


@pytest.mark.slow
def test_a_row_has_every_figure() -> None:
    config = SimulationBenchConfig(num_clips=2, repeats=1, workers=2)
    (row,) = bench_simulation(config, {"toy": ToyConfig()})
    assert row["speedup"] != 0 and row["peak_mib_4x"] > 0


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        SimulationBenchConfig(repeats=0)
