"""Roll-outs of an action world on held-out episodes.

python experiments/010_nano_action/measure.py RUN SHARDS out=FOLDER [steps=8] [clips=96]

Writes evaluation.json and strip.png into FOLDER.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.rollouts import COPY, WORLD, WRONG, evaluate_rollouts
from openwfm.files import write_json
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import World
from openwfm.world.action import ActionWorld

GIVEN, BATCH, SEED = 2, 16, 0


def main(run: str, shards: str, *, out: str, steps: int = 8, clips: int = 96) -> None:
    world = World.load(run)
    assert isinstance(world, ActionWorld)
    config = DataConfig(
        shards=shards, num_frames=GIVEN + steps, val_batch_size=BATCH, truths=("action",)
    )
    batches = []
    for batch in ShardDataModule(config=config).test_dataloader():
        batches.append(batch)
        if len(batches) * BATCH >= clips:
            break
    report = evaluate_rollouts(world, batches, given=GIVEN, seed=SEED)
    write_json(
        Path(out) / "evaluation.json", {**report.to_json(), "speed": speed(world, batches[0].video)}
    )
    for name, row in report.rows.items():
        gap = report.gaps.get(name, {}).get("moving_psnr")
        text = f"  world - this {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]" if gap else ""
        value = row["moving_psnr"]
        print(f"{name:28s} {value.mean:6.2f} [{value.low:.2f}, {value.high:.2f}]{text}")
    shown = ["real", WORLD, WRONG[0], COPY]
    rows = [strip(to_uint8(report.examples[name][clip])) for clip in range(4) for name in shown]
    write_png(Path(out) / "strip.png", stack_rows(rows))


def speed(world: ActionWorld, video: torch.Tensor) -> dict[str, float]:
    """Steps a second of one session, after a few."""
    session = world.session(video[:1, :, :GIVEN], seeds=[0])
    action = torch.tensor(world.action.mean)
    times = []
    for _ in range(40):
        started = time.perf_counter()
        session.step(action)
        times.append(time.perf_counter() - started)
    middle = sorted(times[5:])[len(times[5:]) // 2]
    return {"milliseconds_a_step": 1e3 * middle, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    counts = {name: int(named[name]) for name in ("steps", "clips") if name in named}
    main(*plain, out=named["out"], **counts)
