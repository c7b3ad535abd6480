"""Held-out clips: tokens and pixels of the future, beside copying; and what speculation saves.

python experiments/008_nano_autoregressive/measure.py RUN SHARDS out=FOLDER [clips=128]
python experiments/008_nano_autoregressive/measure.py RUN SHARDS out=FOLDER what=speculation

The first writes tokens.json, evaluation.json, clips.csv and strip.png into FOLDER; the second, of
weights with Medusa heads, speculation.json.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openwfm.autoregressive.generate import (
    Drafter,
    PreviousFrame,
    Statistics,
    generate_tokens,
    speculate_tokens,
)
from openwfm.autoregressive.medusa import accepted_places
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.clips import DrawnClips
from openwfm.evaluation.futures import FuturesConfig, evaluate_futures
from openwfm.evaluation.tokens import evaluate_tokens
from openwfm.files import sha256_file, write_json
from openwfm.randomness import torch_generator
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.weights import TENSORS
from openwfm.world import Sampling, World
from openwfm.world.autoregressive import AutoregressiveWorld
from openwfm.world.world import weights_folder

SEED, TIMED, FUTURES = 0, 24, 16
SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "top-p 0.8": Sampling(temperature=1.0, top_p=0.8),
}


class Averaged(AutoregressiveWorld):
    """The mean of several futures: the guess that a squared error rewards."""

    @torch.inference_mode()
    def predict(self, frames: Tensor | None, **options: Any) -> Tensor:
        assert frames is not None
        given = self.tokenizer.encode_indices(frames)
        count = int(self.facts.temporal.latent_frames(options["num_frames"]))
        means = []
        for number, clip in enumerate(given):
            made = self.model.generate(
                clip[None].expand(FUTURES, -1, -1, -1),
                count,
                sampler=SamplerConfig(top_p=None),
                generator=torch_generator(options["seed"], "futures", number),
            )
            means.append(self.tokenizer.decode_indices(made.int()).clamp(-1, 1).mean(0))
        videos = torch.stack(means)
        videos[:, :, : frames.shape[2]] = frames
        return videos


def speculation(world: AutoregressiveWorld, clips: DrawnClips) -> dict[str, Any]:
    """Passes and seconds of the same clips: one by one, and with each drafter, in turns."""
    model = world.model
    drafters: dict[str, Drafter] = {"previous frame": PreviousFrame(model.config.frame_tokens)}
    if model.medusa is not None:
        drafters["medusa"] = model.drafter()
    prompts: list[Tensor] = []
    for batch in clips:
        if len(prompts) >= TIMED:
            break
        prompts += list(world.tokenizer.encode_indices(batch.video)[:, :2].long())
    found: dict[str, Any] = {}
    for name, sampler in (
        ("greedy", SamplerConfig(temperature=0.0)),
        ("top-p 0.8", SamplerConfig(top_p=0.8)),
    ):
        seconds: dict[str, list[float]] = {"one by one": []}
        statistics = {drafter: Statistics() for drafter in drafters}
        maps = {drafter: torch.zeros(model.config.frame_tokens) for drafter in drafters}
        equal = dict.fromkeys(drafters, 0)
        for number, prompt in enumerate(prompts[:TIMED]):
            sequence, count = model.sequence(prompt[None]), model.config.frame_tokens
            start = time.perf_counter()
            plain = generate_tokens(
                model.net, sequence, count, sampler, generator=torch_generator(SEED, "a", number)
            )
            seconds["one by one"].append(time.perf_counter() - start)
            for drafter, guess in drafters.items():
                own, start = Statistics(), time.perf_counter()
                made = speculate_tokens(
                    model.net,
                    sequence,
                    count,
                    sampler,
                    guess,
                    generator=torch_generator(SEED, drafter, number),
                    statistics=own,
                )
                seconds.setdefault(drafter, []).append(time.perf_counter() - start)
                equal[drafter] += int(torch.equal(made, plain))
                maps[drafter] += accepted_places(own, count)
                statistics[drafter].passes += own.passes
                statistics[drafter].drafted += own.drafted
                statistics[drafter].accepted += own.accepted
        found[name] = {
            drafter: {
                "clips": min(TIMED, len(prompts)),
                "equal_clips": equal[drafter],
                "accepted_per_pass": float(np.mean(own.accepted)),
                "passes": own.passes,
                "passes_one_by_one": min(TIMED, len(prompts)) * (model.config.frame_tokens - 1),
                "median_time_ratio": float(
                    np.median(np.array(seconds["one by one"]) / np.array(seconds[drafter]))
                ),
                "acceptance": (maps[drafter] / min(TIMED, len(prompts)))
                .view(*model.config.grid[1:])
                .tolist(),
            }
            for drafter, own in statistics.items()
        }
    return found


def main(arguments: list[str]) -> None:
    run, shards = (a for a in arguments if "=" not in a)
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    torch.set_num_threads(1)
    weights, out = weights_folder(run), Path(given["out"])
    world = World.load(weights)
    assert isinstance(world, AutoregressiveWorld)
    data = ShardDataModule(config=DataConfig(shards=shards, kinds=("simulated",)))
    clips = DrawnClips(
        data, "test", num_clips=int(given.get("clips", 128)), batch_size=16, seed=SEED
    )
    if given.get("what") == "speculation":
        found = speculation(world, clips)
        write_json(
            out / "speculation.json",
            {"weights_sha256": sha256_file(weights / TENSORS), "samplers": found},
        )
        for name, part in found.items():
            for drafter, facts in part.items():
                print(name, drafter, {k: v for k, v in facts.items() if k != "acceptance"})
        return
    tokens = evaluate_tokens(world.model, world.tokenizer, clips, seed=SEED)
    write_json(
        out / "tokens.json",
        {"weights_sha256": sha256_file(weights / TENSORS), **tokens.to_json()},
    )
    for name, part in (*tokens.rows.items(), *tokens.differences.items()):
        print(name, {m: f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" for m, i in part.items()})
    reports = {
        name: evaluate_futures(world, clips, FuturesConfig(seed=SEED, sampling=sampling))
        for name, sampling in SAMPLINGS.items()
    }
    mean = Averaged(world.model, world.tokenizer, world.facts)
    reports[f"mean of {FUTURES} futures"] = evaluate_futures(mean, clips, FuturesConfig(seed=SEED))
    best = reports["greedy"]
    best.scores.write_csv(out / "clips.csv")
    write_json(
        out / "evaluation.json",
        {
            "kind": "autoregressive",
            "weights_sha256": sha256_file(weights / TENSORS),
            "data_manifest_sha256": data.manifest_sha256,
            "entropy": tokens.entropy.tolist(),
            "futures": {name: report.to_json() for name, report in reports.items()},
        },
    )
    rows = [
        strip(to_uint8(video), every=2)
        for example in best.examples[:4]
        for video in (example.real, example.made)
    ]
    write_png(out / "strip.png", stack_rows(rows))
    for name, report in reports.items():
        for row, part in (*report.rows.items(), *report.differences.items()):
            shown = {m: f"{i.mean:.2f} [{i.low:.2f}, {i.high:.2f}]" for m, i in part.items()}
            print(name, "|", row, shown)


if __name__ == "__main__":
    main(sys.argv[1:])
