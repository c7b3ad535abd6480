"""``openwfm simulate``: raw footage, or clips of a world with ground truth."""

from __future__ import annotations

from omegaconf import DictConfig

from openwfm.config import build
from openwfm.simulation.config import FootageConfig, LongTakesConfig, SimulationConfig


def main(config: DictConfig) -> int:
    """Film what is missing and say what there is; returns 0."""
    if config.kind != "footage":
        raise ValueError(f"kind={config.kind}: must be footage, or give world=…")
    if config.get("world") is not None:
        return _world(config)
    from openwfm.simulation.footage import film_footage

    takes = build(config.takes)
    assert isinstance(takes, FootageConfig)
    summary = film_footage(takes)
    place = f"{takes.out}/raw"
    _say(summary.filmed, summary.num_takes, "takes", summary.num_frames, summary.seconds, place)
    return 0


def _world(config: DictConfig) -> int:
    from openwfm.simulation.film import film_world
    from openwfm.simulation.longtakes import film_long_takes

    clips, world = build(config.clips), build(config.world)
    assert isinstance(clips, SimulationConfig)
    if config.footage:
        long_takes = build(config.long_takes)
        assert isinstance(long_takes, LongTakesConfig)
        takes = film_long_takes(clips, world, long_takes)
        place = f"{clips.out}/raw"
        _say(takes.filmed, takes.num_takes, "takes", takes.num_frames, takes.seconds, place)
        return 0
    summary = film_world(clips, world)
    counts = (summary.filmed, summary.num_clips)
    _say(*counts, "clips", summary.num_frames, summary.seconds, clips.out)
    print(
        f"{summary.kept} kept, {summary.rejected} rejected (reasons: {clips.out}/manifest.parquet)"
    )
    return 0


def _say(filmed: int, total: int, unit: str, frames: int, seconds: float, place: str) -> None:
    if not filmed:
        print(f"all {total} {unit} are there: {place}")
        return
    rate = frames / seconds
    print(
        f"filmed {filmed} {unit}, {frames} frames in {seconds:.1f} s ({rate:.0f} a second): {place}"
    )
