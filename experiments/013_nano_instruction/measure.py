"""Does a world do what it is told? Episodes from a first frame and an instruction.

python experiments/013_nano_instruction/measure.py RUN SHARDS PROBE out=FOLDER [clips=64]
    [guidance=2]

Three films of every held-out clip, with equal noise: told its own instruction, that of another
clip, and nothing. A probe reads the last frame: is the clip's own task done, and how far is the
gripper from where the real episode ends? Writes evaluation.json and strip.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.dataset import collate
from openwfm.evaluation.metrics import bootstrap_interval
from openwfm.evaluation.probe import Probe
from openwfm.evaluation.table import plain_interval
from openwfm.files import write_json
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import Sampling, World

SEED, BATCH, FRAMES = 13, 16, 33
TOLD, OTHER, NOTHING, REAL = "its instruction", "another clip's", "nothing", "real episode"


def main(
    run: str, shards: str, probe_folder: str, *, out: str, clips: int = 64, guidance: float = 2.0
) -> None:
    world, probe = World.load(run), Probe.load(probe_folder)
    data = ShardDataModule(
        config=DataConfig(shards=shards, num_frames=FRAMES, text="required", text_tokens=64)
    )
    dataset = data.dataset("test")
    count = min(clips, len(dataset))
    keys, ends = [], {name: [] for name in (TOLD, OTHER, NOTHING, REAL)}
    asked, examples = [], {}
    for start in range(0, count, BATCH):
        batch = collate([dataset[i] for i in range(start, min(start + BATCH, count))], 64)
        assert batch.video is not None and batch.text is not None
        films = {REAL: batch.video}
        for name, text in (
            (TOLD, batch.text),
            (OTHER, batch.text.roll(1, 0)),
            (NOTHING, torch.zeros_like(batch.text)),
        ):
            films[name] = world.predict(
                batch.video[:, :, :1],
                text=text,
                num_frames=FRAMES,
                fps=batch.fps,
                seed=SEED + start,
                sampling=Sampling(guidance=guidance if name != NOTHING else 0.0),
            )
        for name, film in films.items():
            ends[name].append(film[:, :, -1])
        keys += batch.key
        asked += [questions(probe, data._open().metadata(key)["facts"]) for key in batch.key]
        examples = examples or films
    last = {name: torch.cat(parts) for name, parts in ends.items()}
    report = {
        "kind": "instructions",
        "num_clips": len(keys),
        "seed": SEED,
        "guidance": guidance,
        "rows": rows(probe, last, torch.stack(asked), keys),
    }
    write_json(Path(out) / "evaluation.json", report)
    for name, row in report["rows"].items():  # type: ignore[attr-defined]
        print(name, {k: [round(v[x], 4) for x in ("mean", "low", "high")] for k, v in row.items()})
    shown = [
        strip(to_uint8(examples[name][i]), every=4)
        for i in range(4)
        for name in (REAL, TOLD, OTHER)
    ]
    write_png(Path(out) / "strip.png", stack_rows(shown))


def questions(probe: Probe, facts: dict[str, object]) -> Tensor:
    objects = facts["objects"]
    assert isinstance(objects, list)
    return torch.tensor([float(n in (facts["task"], objects[0])) for n in probe.config.asked])


def rows(
    probe: Probe, last: dict[str, Tensor], asked: Tensor, keys: list[str]
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    end = probe.read(last[REAL])[:, :3]
    found = {
        name: {
            "done": (probe.holds(frames, asked)[:, 0] > 0.5).double(),
            "gripper_metres_off": (probe.read(frames)[:, :3] - end).norm(dim=1).double(),
        }
        for name, frames in last.items()
    }
    gaps = {
        f"{TOLD} - {name}": {m: found[TOLD][m] - v for m, v in found[name].items()}
        for name in (OTHER, NOTHING)
    }
    return {
        name: {
            m: plain_interval(bootstrap_interval(v.numpy(), groups=keys, seed=SEED))
            for m, v in row.items()
        }
        for name, row in {**found, **gaps}.items()
    }


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    values = {"clips": int(named.get("clips", 64)), "guidance": float(named.get("guidance", 2))}
    main(*plain, out=named["out"], **values)  # type: ignore[arg-type]
