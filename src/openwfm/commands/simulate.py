"""``openwfm simulate footage``: film raw takes with MuJoCo."""

from __future__ import annotations

from omegaconf import DictConfig

from openwfm.config import build
from openwfm.simulation.config import FootageConfig
from openwfm.simulation.footage import film_footage


def main(config: DictConfig) -> int:
    """Film what is missing and say what there is; returns 0."""
    if config.kind != "footage":
        raise ValueError(f"kind={config.kind}: must be footage")
    footage = build(config.footage)
    assert isinstance(footage, FootageConfig)
    summary = film_footage(footage)
    if summary.filmed:
        print(
            f"filmed {summary.filmed} takes, {summary.num_frames} frames in "
            f"{summary.seconds:.1f} s ({summary.frames_per_second:.0f} a second): {footage.out}/raw"
        )
    else:
        print(f"all {summary.num_takes} takes are there: {footage.out}/raw")
    return 0
