"""49 frames of the world of 002, trained on 17, in chunks: how good, and is there a seam?

python experiments/006_nano_few_steps/long_video.py SHARDS WEIGHTS out=FOLDER
    [split=test] [clips=64]

Writes long.json, long.csv and long.png into FOLDER. The row "through pixels" chains as the released
code does: it decodes, and encodes the last 9 frames again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.clips import DrawnClips
from openwfm.evaluation.metrics import masked_psnr, moving_pixels, psnr
from openwfm.evaluation.table import Scores, plain_interval, plain_intervals
from openwfm.files import write_json, write_text
from openwfm.provenance import code_state
from openwfm.randomness import derive_seed
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.world import Sampling, World
from openwfm.world.long import Chunking

SEED, FRAMES, GIVEN = 0, 49, 9
SPANS = {"9-16": (9, 17), "17-32": (17, 33), "33-48": (33, 49)}
VARIANTS = {
    "latents, overlap 2, noise 0.001": Chunking(condition_sigmas=(0.001,)),
    "latents, overlap 2, noise 0.05": Chunking(condition_sigmas=(0.05,)),
    "latents, overlap 2, noise 0.2, 0.5": Chunking(condition_sigmas=(0.2, 0.5)),
    "the same, relative statistics": Chunking(condition_sigmas=(0.2, 0.5), statistics="relative"),
    "latents, overlap 1, noise 0.001": Chunking(overlap=1, condition_sigmas=(0.001,)),
    "latents, overlap 1, noise 0.2, 0.5": Chunking(overlap=1, condition_sigmas=(0.2, 0.5)),
    "latents, overlap 1, relative, 0.001": Chunking(
        overlap=1, statistics="relative", condition_sigmas=(0.001,)
    ),
}
SHOWN = ("real", *list(VARIANTS)[0:3:2], "through pixels")
PIXELS, COPY, CEILING = "through pixels", "copy last frame", "tokenizer reconstruction"


def through_pixels(world: World, batch: VideoBatch, given: Tensor, seed: int) -> Tensor:
    video, number = given, 0
    while video.shape[2] < FRAMES:
        made = world.predict(
            video[:, :, -GIVEN:],
            text=batch.text,
            num_frames=17,
            fps=batch.fps,
            seed=derive_seed(seed, "chunk", number) if number else seed,
            sampling=Sampling(),
        )
        video, number = torch.cat((video, made[:, :, GIVEN:]), dim=2), number + 1
    return video


def changes(video: Tensor) -> dict[str, Tensor]:
    """Mean absolute change between frames: over a border of chunks, of latent frames, and inside.

    Frame 8·n begins a latent frame of 8; with an overlap of 2, chunks begin at 17, 25, 33, 41.
    """
    change = (video[:, :, 1:] - video[:, :, :-1]).abs().mean((1, 3, 4)) / 2
    number = torch.arange(1, FRAMES)
    future = number > GIVEN
    return {
        "every 8 frames": change[:, future & (number % 8 == 1) & (number > 16)].mean(1),
        "every 16 frames": change[:, (number == 17) | (number == 33)].mean(1),
        "8 frames later": change[:, (number == 25) | (number == 41)].mean(1),
        "inside": change[:, future & (number % 8 != 1)].mean(1),
    }


@torch.inference_mode()
def main(shards: str, weights: str, **options: str) -> None:
    out, split = Path(options["out"]), options.get("split", "test")
    config = DataConfig(
        shards=shards, kinds=("simulated",), text="required", num_frames=FRAMES, seed=0, flip=0.0
    )
    num = int(options.get("clips", "64"))
    data = ShardDataModule(config=config)
    clips = DrawnClips(data, split, num_clips=num, batch_size=16, seed=SEED)
    world, scores, pictures = World.load(weights), Scores(), []
    for number, batch in enumerate(clips):
        real, seed = batch.video, derive_seed(SEED, "evaluate", number)
        assert real is not None
        given = real[:, :, :GIVEN]
        scores.keys += batch.key
        videos = {"real": real, CEILING: world.reconstruct(real)}
        videos[COPY] = torch.cat(
            (given, given[:, :, -1:].expand(-1, -1, FRAMES - GIVEN, -1, -1)), 2
        )
        for row, chunking in VARIANTS.items():
            videos[row] = world.predict(
                given,
                text=batch.text,
                num_frames=FRAMES,
                fps=batch.fps,
                seed=seed,
                sampling=Sampling(chunking=chunking),
            )
        videos[PIXELS] = through_pixels(world, batch, given, seed)
        for row, video in videos.items():
            for name, value in changes(video).items():
                scores.add(row, f"change, {name}", value)
            for name, (first, stop) in SPANS.items():
                if row == "real":
                    continue
                guess, truth = video[:, :, first:stop], real[:, :, first:stop]
                mask = moving_pixels(truth, given[:, :, -1], threshold=0.1)
                scores.add(row, f"psnr {name}", psnr(guess, truth))
                scores.add(row, f"moving {name}", masked_psnr(guess, truth, mask))
        if number == 0:
            rows = [videos[row][:, :, ::6] for row in SHOWN]
            pictures = [stack_rows([strip(to_uint8(v[i])) for v in rows]) for i in (0, 5)]
    intervals = scores.intervals(SEED)
    metrics = list(intervals[CEILING])
    lines = [",".join(["row", *metrics])]
    for row, found in intervals.items():
        cells = [f"{found[m].mean:.5f}" if m in found else "" for m in metrics]
        lines.append(",".join([f'"{row}"', *cells]))
    write_text(out / "long.csv", "\n".join(lines) + "\n")
    best = f"moving {list(SPANS)[-1]}"
    against = {
        row: plain_interval(scores.difference(row, PIXELS, best, SEED)) for row in [*VARIANTS, COPY]
    }
    facts = {
        "split": split,
        "num_clips": len(scores.keys),
        "seed": SEED,
        "git_commit": code_state().commit,
        "rows": plain_intervals(intervals),
        f"{best}, minus {PIXELS}": against,
    }
    write_json(out / "long.json", facts)
    write_png(out / "long.png", torch.cat(pictures))
    print("\n".join(lines))


if __name__ == "__main__":
    named = dict(item.split("=", 1) for item in sys.argv[1:] if "=" in item)
    main(*(item for item in sys.argv[1:] if "=" not in item), **named)
