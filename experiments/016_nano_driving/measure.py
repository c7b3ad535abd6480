"""Six views of held-out drives: do they agree, and does the car follow its trajectory?

python experiments/016_nano_driving/measure.py SHARDS JOINT SEPARATE out=FOLDER
       [clips=48] [steps=8] [batch=8] [probe=128]

Writes evaluation.json, clips.csv and strip.png into FOLDER.
"""

from __future__ import annotations

import copy
import csv
import io
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.members import read_camera, read_trajectory
from openwfm.evaluation.backbones import EfficientNetLite0
from openwfm.evaluation.driving import Rig, differences, interval, obedience_gap, pixels, scores_of
from openwfm.evaluation.ego_motion import EgoProbe, flow_features, headings_of, true_steps
from openwfm.files import write_json, write_text
from openwfm.posttraining.driving import VIEWS
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import Sampling, World
from openwfm.world.multiview import MultiViewWorld, grid

SEED, FRAMES = 0, 17
REAL, CEILING, CHANCE = "real", "real through the tokenizer", "views of different clips"
JOINT, SEPARATE = "joint views", "separate views"
OTHER = "joint views, trajectory of another clip"


def main(
    shards: str,
    joint: str,
    separate: str,
    *,
    out: str,
    clips: int = 48,
    steps: int = 8,
    batch: int = 8,
    probe: int = 128,
) -> None:
    data = ShardDataModule(
        config=DataConfig(
            shards=shards,
            num_frames=FRAMES,
            window_stride=FRAMES,
            val_batch_size=batch,
            views=VIEWS,
            truths=("trajectory",),
            text="required",
            text_tokens=64,
        )  # fmt: skip
    )
    worlds = {JOINT: World.load(joint), SEPARATE: World.load(separate)}
    assert all(isinstance(world, MultiViewWorld) for world in worlds.values())
    reader, fit = fit_probe(data, worlds[JOINT], probe)
    rig = rig_of(data)
    network = EfficientNetLite0()
    table: dict[str, dict[str, list[np.ndarray]]] = {}
    gaps: dict[str, list[np.ndarray]] = {}
    keys: list[str] = []
    shown: list[Tensor] = []
    loaders = (data.test_dataloader(), data.val_dataloader())
    for number, films in enumerate(part for loader in loaders for part in loader):
        if len(keys) >= clips:
            break
        made = rows_of(worlds, films, number, steps)
        wrong = films.trajectory.roll(1, 0)
        for name, videos in made.items():
            path = wrong if name == OTHER else films.trajectory
            found = scores_of(
                videos, real=films.video, trajectory=path, rig=rig, probe=reader,
                features=network.distance if name not in (REAL, CHANCE, OTHER) else None,
            )  # fmt: skip
            if name == OTHER:  # how far from where the clip really went
                paths = [reader.path(pixels(video)) for video in videos]
                found["from_own"] = np.array(
                    [
                        np.linalg.norm(film - own[: len(film), :2].numpy(), axis=1).mean()
                        for film, own in zip(paths, films.trajectory, strict=True)
                    ]
                )
            for metric, values in found.items():
                table.setdefault(name, {}).setdefault(metric, []).append(values)
        latents = worlds[JOINT].tokenizer.encode(films.video.flatten(0, 1)).unflatten(0, (-1, 6))
        latents = latents.movedim(1, 2).flatten(2, 3)
        for name, model in models_of(worlds).items():
            gaps.setdefault(name, []).append(obedience_gap(model, latents, films, wrong, seed=SEED))
        keys += films.key
        if number == 0:
            order = (REAL, JOINT, SEPARATE)
            shown = [
                strip(to_uint8(grid(dict(zip(VIEWS, made[name][clip], strict=True)))), every=4)
                for clip in range(3)
                for name in order
            ]
        print(f"{len(keys)} clips", flush=True)
    report(Path(out), table, gaps, keys, fit, steps, worlds)
    write_png(Path(out) / "strip.png", stack_rows(shown))


@torch.inference_mode()
def rows_of(
    worlds: dict[str, World], batch: VideoBatch, number: int, steps: int
) -> dict[str, Tensor]:
    """Videos by row; all worlds have the same noise."""
    real, sampling = batch.video, Sampling(num_steps=steps)

    def made(name: str, path: Tensor) -> Tensor:
        return worlds[name].predict_views(
            real[:, :, :, :1], text=batch.text, trajectory=path, num_frames=FRAMES, fps=batch.fps,
            seed=SEED + number, sampling=sampling,
        )  # fmt: skip

    mixed = real.clone()
    mixed[:, 1::2] = real[:, 1::2].roll(1, 0)
    # In every pair one view is of another clip: front_left, rear, rear_right (odd), and rear_left.
    mixed[:, 2] = real[:, 2].roll(1, 0)
    mixed[:, 5] = real[:, 5]
    return {
        REAL: real,
        CEILING: worlds[JOINT].reconstruct(real),
        CHANCE: mixed,
        JOINT: made(JOINT, batch.trajectory),
        SEPARATE: made(SEPARATE, batch.trajectory),
        OTHER: made(JOINT, batch.trajectory.roll(1, 0)),
    }


def models_of(worlds: dict[str, World]) -> dict[str, torch.nn.Module]:
    """Those whose obedience is measured; the ablated one has its control's output at zero."""
    ablated = copy.deepcopy(worlds[JOINT].model)
    for parameter in ablated.control.embedding[-1].parameters():
        parameter.zero_()
    return {JOINT: worlds[JOINT].model, SEPARATE: worlds[SEPARATE].model, "ablated": ablated}


def rig_of(data: ShardDataModule) -> Rig:
    """Of the first clip; the rig is the same in all."""
    key = data.keys("train")[0]
    tracks = read_camera(data.frames("train") and data.index.read(key, "camera.npz"))
    first = np.linalg.inv(tracks[VIEWS[0]].camera_to_world[0])
    return Rig(
        views=VIEWS,
        intrinsics={view: tracks[view].intrinsics[0] for view in VIEWS},
        poses={view: first @ tracks[view].camera_to_world[0] for view in VIEWS},
    )


def fit_probe(data: ShardDataModule, world: World, count: int) -> tuple[EgoProbe, dict[str, float]]:
    """On training clips through the tokenizer: what a perfect world would show."""
    dataset = data.dataset("train")
    features, steps = [], []
    for row in range(0, len(dataset), max(1, len(dataset) // count)):
        sample = dataset[row]
        read = data.index.read
        points = read_trajectory(read(sample.key, "trajectory.npz"))
        front = read_camera(read(sample.key, "camera.npz"))["front"]
        films = pixels(world.reconstruct(sample.video[None])[0])
        features.append(flow_features(films))
        steps.append(true_steps(points, headings_of(front.camera_to_world)))
    x, y = np.concatenate(features), np.concatenate(steps)
    half = len(x) // 2
    errors = {
        ridge: float(
            np.abs(_predict(EgoProbe.fit(x[:half], y[:half], ridge), x[half:]) - y[half:])[
                :, 0
            ].mean()
        )
        for ridge in (0.01, 0.1, 1.0)
    }
    best = min(errors, key=errors.get)
    return EgoProbe.fit(x, y, best), {
        "clips": len(features),
        "ridge": best,
        "step_error_m": errors[best],
    }


def _predict(probe: EgoProbe, x: np.ndarray) -> np.ndarray:
    return (x - probe.mean) / probe.std @ probe.weights + probe.offset


def report(out: Path, table, gaps, keys, fit, steps, worlds) -> None:  # type: ignore[no-untyped-def]
    rows = {n: {m: np.concatenate(v) for m, v in row.items()} for n, row in table.items()}
    intervals = {
        n: {m: asdict(interval(v, keys)) for m, v in row.items()} for n, row in rows.items()
    }
    for row in rows.values():  # distance to the real floor, clip by clip
        row["cse_from_real"] = row["cse"] - rows[REAL]["cse"]
        row["cse_from_tokenizer"] = row["cse"] - rows[CEILING]["cse"]
    pairs = [
        ("cse", SEPARATE, JOINT), ("cse", JOINT, REAL), ("cse", SEPARATE, REAL),
        ("cse", JOINT, CEILING), ("tse", JOINT, REAL), ("tse", SEPARATE, JOINT),
        ("follow", SEPARATE, JOINT), ("follow", JOINT, REAL),
    ]  # fmt: skip
    found = {name: asdict(value) for name, value in differences(rows, pairs, keys).items()}
    own = rows[OTHER]["from_own"] - rows[OTHER]["follow"]
    found["other trajectory: from its own clip - from what was asked (m)"] = asdict(
        interval(own, keys)
    )
    obey = {n: asdict(interval(np.concatenate(v), keys)) for n, v in gaps.items()}
    settings = {"seed": SEED, "num_steps": steps, "clips": len(keys), "probe": fit}
    settings["sampler"] = worlds[JOINT].settings(Sampling(num_steps=steps))
    write_json(
        out / "evaluation.json",
        {
            "kind": "driving", "rows": intervals, "differences": found, "obedience": obey,
            "settings": settings,
        },
    )  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text)
    columns = [
        (n, m) for n, row in rows.items() for m in row if not m.endswith(("real", "tokenizer"))
    ]
    writer.writerow(["clip", *(f"{n}/{m}" for n, m in columns)])
    for i, key in enumerate(keys):
        writer.writerow([key, *(f"{rows[n][m][i]:.4f}" for n, m in columns)])
    write_text(out / "clips.csv", text.getvalue())
    for name, row in intervals.items():
        print(
            name, {m: f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for m, v in row.items()}
        )
    for name, v in {**found, **{f"obedience: {n}": v for n, v in obey.items()}}.items():
        print(f"{name}: {v['mean']:+.4f} [{v['low']:+.4f}, {v['high']:+.4f}]")


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    out = named.pop("out")
    main(*plain, out=out, **{name: int(value) for name, value in named.items()})
