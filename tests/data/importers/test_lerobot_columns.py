"""Arrays that are not the same in every clip cannot be columns of one LeRobot dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openwfm.data.importers.lerobot import import_lerobot
from openwfm.data.importers.lerobot_export import export_lerobot
from openwfm.data.members import read_npz
from openwfm.data.shards import ShardIndex
from openwfm.simulation import film
from openwfm.simulation.config import SimulationConfig
from openwfm.simulation.film import film_world
from openwfm.simulation.worlds import WorldClip
from tests.simulation.toy import ToyConfig, ToyWorld


def test_arrays_of_varying_shape_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ToyWorld.film

    def crowded(self: ToyWorld, index: int) -> WorldClip:
        clip = original(self, index)
        more = {"objects": np.zeros((9, 1 + index % 2, 3)), "height": clip.state["height"]}
        if index:
            more["late"] = np.zeros(9)
        return replace(clip, state=more)

    monkeypatch.setattr(ToyWorld, "film", crowded)
    monkeypatch.setattr(film, "choose_backend", lambda: "none")
    config = SimulationConfig(out=str(tmp_path / "shards"), num_clips=4, text_encoder=None)
    film_world(config, ToyConfig())
    summary = export_lerobot(tmp_path / "shards", tmp_path / "dataset", version="v3.0")
    left = {name for name in summary.left_out if name.startswith("state.npz")}
    assert left == {"state.npz: objects", "state.npz: late"} and summary.num_episodes == 4
    import_lerobot(tmp_path / "dataset", tmp_path / "back")
    index = ShardIndex.open(tmp_path / "back")
    assert len(index) == 4
    for key in index.keys:
        state = read_npz(index.read(key, "state.npz"), key)
        assert state["height"].shape == (9,) and "objects" not in state
