"""A probe that reads the gripper's place, its opening and "done" out of a picture of the arm.

python experiments/010_nano_action/probe.py SHARDS WEIGHTS out=FOLDER [steps=1200] [every=2]

WEIGHTS is a world whose tokenizer half of the pictures go through. Writes the probe and
errors.json: mean errors on the test split, of real pictures and of those through the tokenizer.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.latents import to_video
from openwfm.data.windows import Window
from openwfm.evaluation.metrics import bootstrap_interval
from openwfm.evaluation.probe import Probe, ProbeConfig, Truths, train_probe
from openwfm.evaluation.table import plain_interval
from openwfm.files import write_json
from openwfm.simulation.bodies import COLOURS
from openwfm.simulation.manipulation.scene import TASKS
from openwfm.video import to_uint8
from openwfm.world import World

ASKED = (*TASKS, *(f"{colour} block" for colour in COLOURS))


def main(shards: str, weights: str, *, out: str, steps: int = 1200, every: int = 2) -> None:
    world = World.load(weights)
    data = ShardDataModule(config=DataConfig(shards=shards))
    torch.set_num_threads(1)
    videos, truths, _ = pictures(data, "train", every)
    mean, std = truths.values.mean(0), truths.values.std(0)
    config = ProbeConfig(
        values=("x", "y", "z", "opening"),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        flags=("done",),
        asked=ASKED,
    )
    versions = [shown(videos), shown(through(world, videos))]
    probe = train_probe(config, versions, truths, steps=steps, told=tell)
    probe.save(out)
    held, known, keys = pictures(data, "test", every)
    report = {
        name: errors(probe, video, known, keys)
        for name, video in (("real", held), ("through the tokenizer", through(world, held)))
    }
    write_json(Path(out) / "errors.json", {"num_train": len(truths.values), "test": report})
    print(json.dumps(report, indent=1))


def pictures(
    data: ShardDataModule, split: str, every: int
) -> tuple[list[Tensor], Truths, list[str]]:
    """Each clip's frames ``3 t h w``, every so many, and what is true of each."""
    frames, index = data.frames(split), data._open()
    videos, values, flags, asked, keys = [], [], [], [], []
    for key, length in frames.lengths.items():
        video = to_video(frames.read(Window(key=key, start=0, num_frames=length)))[:, ::every]
        with np.load(io.BytesIO(index.read(key, "state.npz")), allow_pickle=False) as state:
            place, opening = state["gripper_position"], state["gripper_opening"]
            values.append(np.concatenate([place, opening[:, None]], 1)[::every])
            flags.append(state["done"][::every, None])
        facts = index.metadata(key)["facts"]
        facts = json.loads(facts) if isinstance(facts, str) else facts
        row = [float(name in (facts["task"], facts["objects"][0])) for name in ASKED]
        asked.append(np.tile(row, (video.shape[1], 1)))
        videos.append(video)
        keys += [key] * video.shape[1]
    tensors = (torch.tensor(np.concatenate(x), dtype=torch.float32) for x in (values, flags, asked))
    return videos, Truths(*tensors), keys


def through(world: World, videos: list[Tensor]) -> list[Tensor]:
    """Each frame as a picture of its own, as an action world codes it."""
    return [world.reconstruct(video[None])[0] for video in videos]


def shown(videos: list[Tensor]) -> Tensor:
    return torch.cat([to_uint8(video) for video in videos])


def errors(
    probe: Probe, videos: list[Tensor], known: Truths, keys: list[str]
) -> dict[str, dict[str, float | int | None]]:
    frames = torch.cat([video.transpose(0, 1) for video in videos])
    found = probe.read(frames)
    right = (probe.holds(frames, known.asked) > 0.5).float() == known.flags
    values = {
        "gripper_millimetres": 1e3 * (found[:, :3] - known.values[:, :3]).norm(dim=1),
        "opening": (found[:, 3] - known.values[:, 3]).abs(),
        "done_right": right[:, 0].float(),
        "done_right_when_done": right[known.flags[:, 0] > 0.5, 0].float(),
    }
    done = [key for key, flag in zip(keys, known.flags[:, 0].tolist(), strict=True) if flag > 0.5]
    groups = {name: done if name.endswith("when_done") else keys for name in values}
    return {
        name: plain_interval(bootstrap_interval(v.numpy(), groups=groups[name]))
        for name, v in values.items()
    }


def tell(step: int, loss: float) -> None:
    if step % 50 == 0:
        print(f"step {step}: loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    counts = {name: int(named[name]) for name in ("steps", "every") if name in named}
    main(*plain, out=named["out"], **counts)
