from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from openwfm.simulation.rooms.config import KINDS, MOTIONS, RoomsConfig
from openwfm.simulation.rooms.layout import SETTINGS
from openwfm.simulation.rooms.paths import MOVES

CONF = Path(__file__).parents[3] / "conf" / "world" / "rooms.yaml"


def test_the_yaml_holds_every_field_with_its_default() -> None:
    values = yaml.safe_load(CONF.read_text())
    assert values.pop("_target_") == "openwfm.simulation.rooms.config.RoomsConfig"
    assert set(values) == {field.name for field in fields(RoomsConfig)}
    assert RoomsConfig(**values) == RoomsConfig()


@pytest.mark.parametrize(
    "key, value",
    [
        ("width", 100), ("height", 16), ("fps", 0.5), ("supersample", 3), ("num_frames", 1),
        ("fovy", (70.0, 50.0)), ("fovy", (10.0, 50.0)), ("fovy", (50.0,)), ("kinds", ()),
        ("kinds", ("cellar",)), ("motions", ("zoom",)), ("clips_per_room", 0),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"world\.{key}=.*: must"):
        RoomsConfig(**{key: value})


def test_every_kind_has_a_setting_and_every_motion_a_path() -> None:
    assert set(SETTINGS) == set(KINDS)
    assert set(MOVES) == set(MOTIONS)


def test_lists_of_a_yaml_become_tuples_that_can_be_hashed() -> None:
    config = RoomsConfig(kinds=["study"], fovy=[50.0, 60.0])  # type: ignore[arg-type]
    assert config.kinds == ("study",) and hash(config) == hash(
        RoomsConfig(kinds=("study",), fovy=(50.0, 60.0))
    )
