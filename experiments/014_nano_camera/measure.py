"""Camera paths read back out of a camera world's films, and the price of a wrong camera.

python experiments/014_nano_camera/measure.py RUN SHARDS[,SHARDS] out=FOLDER [base=WEIGHTS]
[clips=48] [mapping=1]

Writes evaluation.json, clips.csv and strip.png into FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.camera import evaluate_camera
from openwfm.files import write_json
from openwfm.posttraining.camera_path import given_path
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import World
from openwfm.world.camera import CameraWorld

BATCH, SEED, FRAMES = 8, 0, 17
MOVES = ("turn_left*16", "turn_right*16", "forward*16", "back*16")


def main(run: str, shards: str, *, out: str, base: str | None, clips: int, mapping: bool) -> None:
    world = World.load(run)
    assert isinstance(world, CameraWorld)
    config = DataConfig(
        shards=tuple(shards.split(",")), num_frames=FRAMES, window_stride=FRAMES - 1,
        val_batch_size=BATCH, truths=("camera",),
    )  # fmt: skip
    batches = []
    for batch in ShardDataModule(config=config).test_dataloader():
        batches.append(batch)
        if len(batches) * BATCH >= clips:
            break
    report = evaluate_camera(
        world,
        batches,
        base=None if base is None else World.load(base),
        seed=SEED,
        mapping=mapping,
        progress=True,
    )
    write_json(Path(out) / "evaluation.json", report.to_json())
    report.scores.write_csv(Path(out) / "clips.csv")
    for name, row in report.rows.items():
        cells = [f"{m} {v.mean:.3f} [{v.low:.3f}, {v.high:.3f}]" for m, v in row.items()]
        print(f"{name:30s} {'; '.join(cells)}")
    print(report.ratios)
    for name, gap in report.gaps.items():
        print(f"gap, {name:25s} {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
    write_png(Path(out) / "strip.png", pictures(world, batches[0].video))


def pictures(world: CameraWorld, video: torch.Tensor) -> torch.Tensor:
    """Two pictures, each along four paths."""
    rows = []
    for clip in video[:2]:
        for moves in MOVES:
            path = given_path(moves, world.facts.size)
            made = world.generate(frames=clip[:, :1], camera=path, seed=SEED, fps=12.0)
            rows.append(strip(to_uint8(made.video), every=2))
    return stack_rows(rows)


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    main(
        *plain,
        out=named["out"],
        base=named.get("base"),
        clips=int(named.get("clips", 48)),
        mapping=named.get("mapping", "1") == "1",
    )
