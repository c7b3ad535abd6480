"""The table world: determinism, and its cameras against its pictures."""

from dataclasses import asdict

import numpy as np
import pytest
import yaml

from openwfm.config import config_folder
from openwfm.data.members import CameraTrack
from openwfm.simulation.lens import project
from openwfm.simulation.table import TableConfig


def test_the_yaml_holds_the_defaults() -> None:
    values = yaml.safe_load((config_folder() / "world" / "table.yaml").read_text())
    assert values.pop("_target_") == "openwfm.simulation.table.TableConfig"
    values["scenarios"] = tuple(values["scenarios"])
    assert values == asdict(TableConfig())


def test_a_clip_does_not_depend_on_those_before(backend: str) -> None:
    config = TableConfig(num_frames=25, supersample=1)
    one, other = config.open(3, backend), config.open(3, backend)
    for index in range(3):
        one.film(index)
    first, second = one.film(3), other.film(3)
    np.testing.assert_array_equal(first.views["main"], second.views["main"])
    assert first.captions == second.captions
    one.close()
    other.close()


def test_bodies_are_where_the_cameras_see_them(backend: str) -> None:
    """A still camera's moving pixels surround the projection of what moves."""
    config = TableConfig(num_frames=25, supersample=1)
    world = config.open(1, backend)
    checked = 0
    for index in range(12):
        clip = world.film(index)
        track = clip.cameras["main"]
        assert isinstance(track, CameraTrack)
        if "camera_still" not in clip.tags:
            assert not np.allclose(track.camera_to_world[0], track.camera_to_world[-1])
            continue
        path = clip.state["positions"]
        mover = int(np.linalg.norm(path[-1] - path[0], axis=-1).argmax())
        seen = project(path[:, mover], track.intrinsics[0], track.camera_to_world[0])
        frames = clip.views["main"].astype(int)
        change = np.abs(frames[-1] - frames[0]).max(-1)
        column, row, _ = seen[-1]
        if not (4 < column < 60 and 4 < row < 60) or np.linalg.norm(seen[-1] - seen[0]) < 8:
            continue
        assert change[int(row) - 2 : int(row) + 3, int(column) - 2 : int(column) + 3].max() > 20
        checked += 1
    assert checked >= 3
    world.close()


@pytest.mark.parametrize(
    "values, rule",
    [({"height": 48}, "world.height=48: must equal"), ({"num_frames": 1}, "world.num_frames=1")],
)
def test_bad_values(values: dict[str, int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TableConfig(**values)
