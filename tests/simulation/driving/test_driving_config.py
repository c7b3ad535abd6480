from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from openwfm.simulation.driving.config import DrivingConfig

CONF = Path(__file__).parents[3] / "conf" / "world" / "driving.yaml"


def test_the_yaml_holds_every_field_with_its_default() -> None:
    values = yaml.safe_load(CONF.read_text())
    assert values.pop("_target_") == "openwfm.simulation.driving.config.DrivingConfig"
    default = DrivingConfig()
    expected = {f.name: getattr(default, f.name) for f in fields(default) if f.init}
    assert values == {k: list(v) if isinstance(v, tuple) else v for k, v in expected.items()}
    assert DrivingConfig(**values) == default and default.name == "driving"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fps": 24}, r"world.fps=24: must be one of 10, 30"),
        ({"width": 70}, r"world.width=70: must be a multiple of 16"),
        ({"fov": 60.0}, r"world.fov=60.0: must be between 72 and 120"),
        ({"num_frames": 121}, r"world.num_frames=121: must last at most 12 s"),
        ({"num_frames": 1}, r"world.num_frames=1: must be a whole number"),
        ({"supersample": 3}, r"world.supersample=3: must be one of 1, 2, 4"),
        ({"max_agents": 17}, r"world.max_agents=17: must be a whole number from 0 to 16"),
        ({"behaviours": ()}, r"world.behaviours=\(\): must be at least one"),
        ({"behaviours": ("fly",)}, r"world.behaviours=fly: must be one of straight"),
        ({"weathers": ("fog", "fog")}, r"world.weathers=.*none of them twice"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrivingConfig(**values)  # type: ignore[arg-type]


def test_pixels_are_square() -> None:
    config = DrivingConfig(width=160, height=96, fov=90.0)
    assert np.tan(np.radians(config.fovy) / 2) == pytest.approx(0.6)
