"""Roll-outs of an action world on held-out episodes.

python experiments/010_nano_action/measure.py RUN SHARDS out=FOLDER [base=RUN] [probe=FOLDER]
    [seen=SHARDS] [steps=8] [clips=96] [name=evaluation]

``base`` was trained without actions; ``probe`` reads the gripper's place; clips that are in the
training split of ``seen`` are left out. Writes NAME.json, NAME.png (a strip) and NAME_steps.png
(the measures against the length of the roll-out).
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.dataset import collate
from openwfm.evaluation.probe import Probe
from openwfm.evaluation.rollouts import BASE, CEILING, COPY, WORLD, WRONG, evaluate_rollouts
from openwfm.files import write_json
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import World
from openwfm.world.action import ActionWorld

GIVEN, BATCH, SEED = 2, 16, 0
NAMES = {
    "psnr": "PSNR, dB",
    "moving_psnr": "PSNR of moving pixels, dB",
    "ssim": "SSIM",
    "latent_l2": "latent distance, deviations",
    "features": "feature distance",
    "gripper_mm": "gripper off by, mm",
}


def main(
    run: str,
    shards: str,
    *,
    out: str,
    base: str | None = None,
    probe: str | None = None,
    seen: str | None = None,
    name: str = "evaluation",
    steps: int = 8,
    clips: int = 96,
) -> None:
    world = World.load(run)
    assert isinstance(world, ActionWorld)
    control = None if base is None else World.load(base)
    assert control is None or isinstance(control, ActionWorld)
    data = ShardDataModule(
        config=DataConfig(shards=shards, num_frames=GIVEN + steps, truths=("action",))
    )
    batches, places = held_out(data, clips, training_keys(seen))
    reader = None if probe is None else Probe.load(probe)

    def gripper(number: int, made: Tensor) -> dict[str, Tensor]:
        if reader is None:
            return {}
        apart = reader.read_video(made)[..., :3] - places[number][:, GIVEN:]
        return {"gripper_mm": 1e3 * apart.norm(dim=-1)}

    report = evaluate_rollouts(world, batches, given=GIVEN, seed=SEED, base=control, extra=gripper)
    write_json(
        Path(out) / f"{name}.json",
        {**report.to_json(), "speed": speed(world, batches[0])},
    )
    for row, values in report.rows.items():
        print(row)
        for metric, value in values.items():
            gap = report.gaps.get(row, {}).get(metric)
            text = (
                f"  world - this {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else ""
            )
            print(f"   {metric:14s} {value.mean:8.3f} [{value.low:.3f}, {value.high:.3f}]{text}")
    shown = ["real", WORLD, WRONG[0], *([BASE] if control else []), COPY]
    rows = [strip(to_uint8(report.examples[row][clip])) for clip in range(4) for row in shown]
    write_png(Path(out) / f"{name}.png", stack_rows(rows))
    plot(report.by_step, Path(out) / f"{name}_steps.png")


def training_keys(shards: str | None) -> set[str]:
    if shards is None:
        return set()
    return set(ShardDataModule(config=DataConfig(shards=shards)).keys("train"))


def held_out(
    data: ShardDataModule, clips: int, left_out: set[str]
) -> tuple[list[VideoBatch], list[Tensor]]:
    """Windows spread over the test split, and where the gripper is in every frame (metres)."""
    dataset, index = data.dataset("test"), data._open()
    rows = [i for i, window in enumerate(dataset.windows) if window.key not in left_out]
    chosen = rows if len(rows) <= clips else [rows[i * len(rows) // clips] for i in range(clips)]
    batches, places = [], []
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        batches.append(collate([dataset[row] for row in part], 1))
        tracks = []
        for window in (dataset.windows[row] for row in part):
            with np.load(io.BytesIO(index.read(window.key, "state.npz")), allow_pickle=False) as s:
                stop = window.start + window.num_frames
                tracks.append(s["gripper_position"][window.start : stop])
        places.append(torch.tensor(np.stack(tracks), dtype=torch.float32))
    return batches, places


def plot(by_step: dict[str, dict[str, list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 3, figsize=(11, 5.5), layout="constrained")
    for axes, metric in zip(grid.flat, NAMES, strict=True):
        axes.set_visible(metric in by_step)
        for row, values in by_step.get(metric, {}).items():
            style = "--" if row in (COPY, CEILING) else "-"
            axes.plot(range(1, len(values) + 1), values, style, label=row, linewidth=1.4)
        axes.set(xlabel="frames rolled out", ylabel=NAMES[metric])
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def speed(world: ActionWorld, batch: VideoBatch) -> dict[str, float]:
    """Steps a second of one session, after a few."""
    assert batch.video is not None
    session = world.session(batch.video[:1, :, :GIVEN], seeds=[0])
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
    named: dict[str, str] = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    counts = {key: int(named.pop(key)) for key in ("steps", "clips") if key in named}
    main(*plain, out=named.pop("out"), **named, **counts)  # type: ignore[arg-type]
