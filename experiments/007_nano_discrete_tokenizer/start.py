"""The tokenizer of 003 with a smaller vocabulary, as far as linear algebra gets.

python experiments/007_nano_discrete_tokenizer/start.py SHARDS[,SHARDS…] out=FOLDER levels=8,5,5,5

Both networks stay; only the two pointwise convolutions around the rounding are new. The encoder's
features are projected on the directions that say most about what the decoder was given before
(reduced-rank regression), scaled so that every channel uses its levels, and the way back is the
ridge regression of the decoder's old input on the new codes.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.dataset import collate
from openwfm.randomness import numpy_generator
from openwfm.tokenizer import VideoTokenizer, load_tokenizer
from openwfm.tokenizer.quantize import fsq_codes
from openwfm.weights import plain, save_weights

SOURCE = Path("experiments/003_nano_tokenizers/weights/dv8x8x8")
NUM_CLIPS, SEED, RIDGE = 192, 0, 1e-4
SPREAD = 1.0  # standard deviation of a channel before tanh: its levels are about equally used


@torch.no_grad()
def features(tokenizer: VideoTokenizer, shards: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """What enters the bottleneck and what left it on training clips; (places, z_channels)."""
    dataset = ShardDataModule(config=DataConfig(shards=shards)).dataset("train")
    rows = numpy_generator(SEED, "start/clips").permutation(len(dataset))[:NUM_CLIPS]
    before, after = [], []
    for row in sorted(int(r) for r in rows):
        video = collate([dataset[row]], 1).video
        z = tokenizer.encoder(tokenizer.bands(video))
        codes = tokenizer.quantize(tokenizer.to_latents(z))
        before.append(z.flatten(0, 3))
        after.append(tokenizer.from_latents(codes).flatten(0, 3))
    return torch.cat(before).double(), torch.cat(after).double()


def regression(x: Tensor, y: Tensor) -> Tensor:
    """Ridge regression of centred ``y`` on centred ``x``."""
    gram = x.T @ x
    return torch.linalg.solve(gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram)), x.T @ y)


def main(arguments: list[str]) -> None:
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    shards = tuple(next(a for a in arguments if "=" not in a).split(","))
    levels = tuple(int(n) for n in given["levels"].split(","))
    old = load_tokenizer(SOURCE)
    z, target = features(old, shards)
    middle, aim = z.mean(0), target.mean(0)
    down = regression(z - middle, target - aim)
    _, _, directions = torch.linalg.svd((z - middle) @ down, full_matrices=False)
    down = down @ directions[: len(levels)].T
    down = down / ((z - middle) @ down).std(0) * SPREAD
    codes = fsq_codes((z - middle) @ down, levels)
    up = regression(codes - codes.mean(0), target - aim)

    config = replace(old.config, fsq_levels=levels, latent_channels=len(levels))
    new = VideoTokenizer(config)
    tensors = dict(old.state_dict())
    for name, matrix, bias in (
        ("to_latents", down, -middle @ down),
        ("from_latents", up, aim - codes.mean(0) @ up),
    ):
        tensors[f"{name}.weight"] = matrix.T.float().reshape(
            new.get_parameter(f"{name}.weight").shape
        )
        tensors[f"{name}.bias"] = bias.float()
    new.load_state_dict(tensors)
    error = (codes - codes.mean(0)) @ up - (target - aim)
    print(f"unexplained: {error.square().mean() / (target - aim).square().mean():.3f}")
    save_weights(given["out"], plain({"kind": "tokenizer", "net": asdict(config)}), tensors)


if __name__ == "__main__":
    main(sys.argv[1:])
