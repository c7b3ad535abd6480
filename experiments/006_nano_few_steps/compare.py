"""Teacher and student at few steps, on the same held-out clips with the same noise.

python experiments/006_nano_few_steps/compare.py SHARDS TEACHER STUDENT out=FOLDER
    [split=test] [clips=128] [guidance=0]

``guidance`` above 0 adds a guided teacher. Writes evaluation.json, table.csv, clips.csv and
strip.png into FOLDER.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.diffusion.config import SamplerConfig
from openwfm.evaluation.backbones import EfficientNetLite0
from openwfm.evaluation.clips import DrawnClips
from openwfm.evaluation.metrics import masked_psnr, moving_pixels, psnr
from openwfm.evaluation.metrics.frechet import Moments, frechet_distance
from openwfm.evaluation.table import Scores, plain_interval, plain_intervals
from openwfm.files import write_json, write_text
from openwfm.provenance import code_state
from openwfm.randomness import derive_seed
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import Sampling, World

SEED, GIVEN, BATCH = 0, 9, 16
WAYS = ((1, 0.002), (2, 0.5), (4, 0.002), (4, 0.5))  # steps, and the last noise level
FULL, COPY, CEILING = "teacher, 35 steps", "copy last frame", "tokenizer reconstruction"


def plan(guidance: float) -> dict[str, tuple[str, SamplerConfig]]:
    """Rows: which model, sampled how."""
    base = SamplerConfig(kind="euler", guidance=0.0)
    rows = {FULL: ("teacher", replace(base, num_steps=35))}
    if guidance:
        guided = replace(base, num_steps=35, guidance=guidance)
        rows[f"{FULL}, guidance {guidance:g}"] = ("teacher", guided)
    for model in ("teacher", "student"):
        for steps, level in WAYS:
            name = f"{model}, {steps} steps to {level}" if steps > 1 else f"{model}, 1 step"
            rows[name] = (model, replace(base, num_steps=steps, sigma_min=level))
    return rows


def seconds_a_clip(world: World, sampler: SamplerConfig, clips: Tensor, text: Tensor) -> float:
    """Sampling of latents alone: neither text encoder nor tokenizer."""
    given = world.tokenizer.encode(clips[:, :, :GIVEN])
    start = time.perf_counter()
    world.model.generate_latents(
        condition=given,
        num_latent_frames=3,
        text=text,
        fps=torch.full((len(clips),), 24.0),
        seed=SEED,
        sampler=sampler,
    )
    return (time.perf_counter() - start) / len(clips)


@torch.inference_mode()
def main(shards: str, teacher: str, student: str, **options: str) -> None:
    out, split = Path(options["out"]), options.get("split", "test")
    rows = plan(float(options.get("guidance", "0")))
    worlds = {"teacher": World.load(teacher), "student": World.load(student)}
    config = DataConfig(
        shards=shards, kinds=("simulated",), text="required", num_frames=17, seed=0, flip=0.0
    )
    data = ShardDataModule(config=config)
    num = int(options.get("clips", "128"))
    clips = DrawnClips(data, split, num_clips=num, batch_size=BATCH, seed=SEED)
    scores, backbone = Scores(), EfficientNetLite0()
    moments = {row: Moments() for row in [*rows, COPY, CEILING, "real"]}
    timed: dict[str, list[float]] = {row: [] for row in rows}
    pictures: list[Tensor] = []
    for number, batch in enumerate(clips):
        real = batch.video
        assert real is not None and batch.text is not None
        scores.keys += batch.key
        future, last = real[:, :, GIVEN:], real[:, :, GIVEN - 1]
        mask = moving_pixels(future, last, threshold=0.1)
        videos = {
            COPY: last[:, :, None].expand_as(real),
            CEILING: worlds["teacher"].reconstruct(real),
        }
        for row, (name, sampler) in rows.items():
            world = worlds[name]
            world.model.sampler = sampler  # type: ignore[attr-defined]
            videos[row] = world.predict(
                real[:, :, :GIVEN],
                text=batch.text,
                num_frames=17,
                fps=batch.fps,
                seed=derive_seed(SEED, "evaluate", number),
                sampling=Sampling(),
            )
            if number in (1, 2, 3):
                timed[row].append(seconds_a_clip(world, sampler, real, batch.text))
        for row, video in videos.items():
            guess = video[:, :, GIVEN:]
            scores.add(row, "psnr", psnr(guess, future))
            scores.add(row, "moving_psnr", masked_psnr(guess, future, mask))
            scores.add(row, "psnr_to_full", psnr(guess, videos[FULL][:, :, GIVEN:]))
            scores.add(row, "feature_distance", backbone.distance(guess, future))
            moments[row].add(backbone.clips(guess))
        moments["real"].add(backbone.clips(future))
        if number == 0:
            shown = ["real", FULL, *(row for row in rows if row != FULL)]
            for i in range(0, BATCH, 4):
                lines = [real[i] if row == "real" else videos[row][i] for row in shown]
                pictures.append(stack_rows([strip(to_uint8(x[:, 7:]), every=3) for x in lines]))
    report(out, rows, scores, moments, timed, split)
    write_png(out / "strip.png", torch.cat(pictures, dim=1))


def report(
    out: Path,
    rows: dict[str, tuple[str, SamplerConfig]],
    scores: Scores,
    moments: dict[str, Moments],
    timed: dict[str, list[float]],
    split: str,
) -> None:
    frechet = {row: frechet_distance(m, moments["real"]) for row, m in moments.items()}
    seconds = {row: float(torch.tensor(values).median()) for row, values in timed.items() if values}
    lines = ["row,moving_psnr,low,high,minus_full,low,high,psnr,feature_distance,frechet,seconds"]
    for row in scores.values:
        moving = scores.interval(row, "moving_psnr", SEED)
        gap = scores.difference(row, FULL, "moving_psnr", SEED)
        others = [scores.interval(row, name, SEED).mean for name in ("psnr", "feature_distance")]
        figures = [moving.mean, moving.low, moving.high, gap.mean, gap.low, gap.high, *others]
        cells = [f"{value:.4f}" for value in [*figures, frechet[row]]]
        lines.append(",".join([f'"{row}"', *cells, f"{seconds.get(row, float('nan')):.5f}"]))
    write_text(out / "table.csv", "\n".join(lines) + "\n")
    scores.write_csv(out / "clips.csv")
    facts = {
        "split": split,
        "num_clips": len(scores.keys),
        "seed": SEED,
        "git_commit": code_state().commit,
        "rows": plain_intervals(scores.intervals(SEED)),
        "minus_full": {
            row: plain_interval(scores.difference(row, FULL, "moving_psnr", SEED))
            for row in scores.values
        },
        "frechet": frechet,
        "frechet_label": f"{EfficientNetLite0.label}, to the real futures of the same clips",
        "seconds_a_clip": seconds,
        "timing": f"latents alone, batches of {BATCH}, median of 3",
        "threads": torch.get_num_threads(),
        "samplers": {row: asdict(sampler) for row, (_, sampler) in rows.items()},
    }
    write_json(out / "evaluation.json", facts)
    print("\n".join(lines))


if __name__ == "__main__":
    named = dict(item.split("=", 1) for item in sys.argv[1:] if "=" in item)
    main(*(item for item in sys.argv[1:] if "=" not in item), **named)
