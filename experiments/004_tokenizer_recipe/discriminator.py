"""The decoder trained on with a discriminator, beside the same steps without, on held-out clips.

python experiments/004_tokenizer_recipe/discriminator.py SHARDS,… CONTROL ADVERSARIAL \
    split=test clips=192 out=FOLDER

Writes discriminator.json, discriminator.csv, discriminator.png and the table of README.md into
FOLDER. Settings are chosen with split=val; split=test is for the one comparison that counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from measure import random_features, shot_features, trained_features
from torch import Tensor
from torch.nn import functional as F

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.dataset import collate
from openwfm.evaluation.metrics import psnr, ssim
from openwfm.evaluation.metrics.frechet import Moments, frechet_distance
from openwfm.evaluation.table import Scores, plain_interval
from openwfm.files import write_json, write_text
from openwfm.randomness import numpy_generator
from openwfm.tokenizer import load_tokenizer
from openwfm.tokenizer.losses import perceptual_distance
from openwfm.video import stack_rows, strip, to_uint8, write_png

SEED, DRAWS = 0, 400
START = Path("experiments/003_nano_tokenizers/weights/cv4x8x8")
HIGHER = ("PSNR", "SSIM")  # of all others less is better, or 1 for the share of power
TEXT_LAYERS = ("p2o.Add.15", "p2o.Add.63", "p2o.Add.127", "p2o.Add.207")  # strides 2 to 32
BANDS = ((8, 16), (16, 24), (24, 46))  # cycles a picture side of 64 pixels
Look = Callable[[Tensor], tuple[Tensor, ...]]


def text_features() -> Look:
    """PP-OCRv4's detector, trained to find writing: the backbone's maps of frames twice as large.

    Appending to a serialised graph adds to its fields: so its inner values become outputs.
    """
    import onnxruntime
    import rapidocr_onnxruntime

    folder = Path(rapidocr_onnxruntime.__file__).parent / "models"
    model = (folder / "ch_PP-OCRv4_det_infer.onnx").read_bytes()
    for name in TEXT_LAYERS:
        value = b"\x0a" + bytes([len(name)]) + name.encode()
        output = b"\x62" + bytes([len(value)]) + value
        model += b"\x3a" + bytes([len(output)]) + output
    session = onnxruntime.InferenceSession(model, _options(onnxruntime))
    entry = session.get_inputs()[0].name
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def look(clip: Tensor) -> tuple[Tensor, ...]:
        frames = rearrange(clip[:, :, 2::4], "b c t h w -> (b t) c h w")
        large = F.interpolate(frames, scale_factor=2, mode="bilinear")
        pixels = ((large + 1) / 2 - mean) / std
        return tuple(map(torch.from_numpy, session.run(TEXT_LAYERS, {entry: pixels.numpy()})))

    return look


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return options


BACKBONES: dict[str, Callable[[], Look]] = {
    "trained": trained_features,
    "shots": shot_features,
    "text": text_features,
    "random": random_features,
}


def pooled(maps: tuple[Tensor, ...]) -> Tensor:
    """What a Fréchet distance compares: a vector a frame, of the last maps but one."""
    return maps[-2 if len(maps) > 2 else -1].mean((2, 3)).double()


def power(clip: Tensor) -> Tensor:
    """Spectral power of the grey frames in each of `BANDS`."""
    spectrum = torch.fft.fft2(clip[0].mean(0)).abs().square()
    cycles = torch.fft.fftfreq(clip.shape[-1]) * 64
    radius = (cycles[:, None].square() + cycles.square()).sqrt()
    return torch.stack([spectrum[:, (radius >= a) & (radius < b)].sum() for a, b in BANDS])


class Rows:
    """Scores of clips, and the vectors and spectra that only mean something together."""

    def __init__(self) -> None:
        self.looks = {name: build() for name, build in BACKBONES.items()}
        self.scores = Scores()
        self.vectors: dict[str, dict[str, list[Tensor]]] = {}
        self.power: dict[str, list[Tensor]] = {}

    def add(
        self, row: str, clip: Tensor, real: Tensor, truth: dict[str, tuple[Tensor, ...]]
    ) -> None:
        self.power.setdefault(row, []).append(power(clip))
        maps = truth if clip is real else self.look(clip)
        for name, found in maps.items():
            self.vectors.setdefault(name, {}).setdefault(row, []).append(pooled(found))
        if clip is real:
            return
        values = {"PSNR": psnr(clip, real), "SSIM": ssim(clip, real)}
        for name, found in maps.items():
            values[f"{name} features"] = perceptual_distance(found, truth[name])[None]
        for name, value in values.items():
            self.scores.add(row, name, value)

    def look(self, clip: Tensor) -> dict[str, tuple[Tensor, ...]]:
        return {name: look(clip) for name, look in self.looks.items()}

    def frechet(self, backbone: str, row: str, clips: np.ndarray) -> float:
        moments = []
        for which in (row, "real"):
            part = Moments()
            part.add(torch.cat([self.vectors[backbone][which][i] for i in clips]))
            moments.append(part)
        return frechet_distance(*moments)

    def frechet_difference(self, backbone: str, row: str, other: str) -> dict[str, float]:
        """Of ``row`` minus ``other``, with an interval over clips drawn again and again."""
        keys, random = np.array(self.scores.keys), numpy_generator(SEED, "bootstrap")
        groups = [np.flatnonzero(keys == key) for key in sorted(set(keys))]
        everyone = np.arange(len(keys))
        draws = [
            np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))])
            for _ in range(DRAWS)
        ]
        values = [
            self.frechet(backbone, row, clips) - self.frechet(backbone, other, clips)
            for clips in (everyone, *draws)
        ]
        low, high = np.quantile(values[1:], [0.025, 0.975])
        return {"mean": values[0], "low": float(low), "high": float(high)}


@torch.no_grad()
def main(arguments: list[str]) -> None:
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    shards, *runs = [a for a in arguments if "=" not in a]
    torch.set_num_threads(1)
    names = ["control", "adversarial"] if len(runs) == 2 else [Path(run).name for run in runs]
    folders = {"start": START} | {
        name: Path(run) / "weights" for name, run in zip(names, runs, strict=True)
    }
    tokenizers = {row: load_tokenizer(folder) for row, folder in folders.items()}
    config = DataConfig(shards=tuple(shards.split(",")))
    dataset = ShardDataModule(config=config).dataset(options["split"])
    order = numpy_generator(SEED, f"draw clips/{options['split']}").permutation(len(dataset))
    chosen = sorted(int(r) for r in order[: int(options["clips"])])
    rows, pictures = Rows(), []
    for number, index in enumerate(chosen):
        batch = collate([dataset[index]], 1)
        clip = batch.video
        assert clip is not None
        truth, shown = rows.look(clip), [clip]
        rows.scores.keys.append(batch.key[0])
        rows.add("real", clip, clip, truth)
        for name, tokenizer in tokenizers.items():
            made = tokenizer(clip).clamp(-1, 1)
            rows.add(name, made, clip, truth)
            shown.append(made)
        if number % (len(chosen) // 4) == len(chosen) // 8:
            pictures.append(stack_rows([strip(to_uint8(video[0]), every=4) for video in shown]))
    out = Path(options["out"])
    report(out, rows, names, options["split"])
    write_png(out / "discriminator.png", torch.cat(pictures, 1))


def report(out: Path, rows: Rows, names: list[str], split: str) -> None:
    scores, control = rows.scores, names[0]
    others = ["start", *names[1:]]
    metrics = list(scores.values[control])
    facts: dict[str, Any] = {
        "kind": "tokenizer discriminator",
        "split": split,
        "num_windows": len(scores.keys),
        "num_clips": len(set(scores.keys)),
        "control": {m: plain_interval(scores.interval(control, m, SEED)) for m in metrics},
        "minus_control": {},
        "frechet": {},
        "power": {
            row: (sum(rows.power[row]) / sum(rows.power["real"])).tolist()
            for row in [control, *others]
        },
    }
    lines = ["| | " + " | ".join([control, *others]) + " |", "|---" * (len(others) + 2) + "|"]
    for metric in metrics:
        found = {o: plain_interval(scores.difference(o, control, metric, SEED)) for o in others}
        facts["minus_control"][metric] = found
        lines.append(_line(metric, facts["control"][metric]["mean"], found))
    for name in rows.looks:
        everyone = np.arange(len(scores.keys))
        found = {o: rows.frechet_difference(name, o, control) for o in others}
        value = rows.frechet(name, control, everyone)
        facts["frechet"][name] = {control: value, "minus_control": found}
        lines.append(_line(f"Fréchet, {name}", value, found))
    for i, (low, high) in enumerate(BANDS):
        cells = [f"{facts['power'][row][i]:.3f}" for row in [control, *others]]
        lines.append(f"| power kept, {low}-{high} cycles | " + " | ".join(cells) + " |")
    scores.write_csv(out / "discriminator.csv")
    write_json(out / "discriminator.json", facts)
    write_text(out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _line(metric: str, value: float, found: dict[str, Any]) -> str:
    """Bold where the interval excludes 0, ✓ where that is the better side."""
    cells = [f"{value:.4g}"]
    for d in found.values():
        clear = d["low"] > 0 or d["high"] < 0
        bold = "**" if clear else ""
        good = "" if not clear else " ✓" if (d["mean"] > 0) == (metric in HIGHER) else " ✗"
        cells.append(f"{bold}{d['mean']:+.3g}{bold} [{d['low']:+.2g}, {d['high']:+.2g}]{good}")
    return f"| {metric} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(sys.argv[1:])
