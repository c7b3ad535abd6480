"""What a small vocabulary costs: held-out clips through it and through that of 003.

python experiments/007_nano_discrete_tokenizer/measure.py SHARDS out=FOLDER [clips=128]

Writes evaluation.json, clips.csv and strip.png into FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.backbones import EfficientNetLite0
from openwfm.evaluation.clips import DrawnClips
from openwfm.evaluation.metrics import psnr, ssim
from openwfm.evaluation.table import Scores, plain_intervals
from openwfm.files import sha256_file, write_json
from openwfm.tokenizer import load_tokenizer
from openwfm.tokenizer.quantize import code_histogram, code_usage, perplexity
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.weights import TENSORS

SEED = 0
ROWS = {
    "007, 1000 codes": Path("experiments/007_nano_discrete_tokenizer/weights"),
    "003, 64000 codes": Path("experiments/003_nano_tokenizers/weights/dv8x8x8"),
}


@torch.no_grad()
def main(arguments: list[str]) -> None:
    shards = next(a for a in arguments if "=" not in a)
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    torch.set_num_threads(1)
    out, features = Path(given["out"]), EfficientNetLite0()
    data = ShardDataModule(config=DataConfig(shards=shards, kinds=("simulated",)))
    clips = DrawnClips(
        data, "test", num_clips=int(given.get("clips", 128)), batch_size=16, seed=SEED
    )
    tokenizers = {row: load_tokenizer(folder) for row, folder in ROWS.items()}
    scores, pictures = Scores(), []
    histograms = {row: torch.zeros(t.config.num_codes or 0).long() for row, t in tokenizers.items()}
    for batch in clips:
        real = batch.video
        assert real is not None
        scores.keys += list(batch.key)
        shown = [real]
        for row, tokenizer in tokenizers.items():
            tokens = tokenizer.encode_indices(real)
            histograms[row] += code_histogram(tokens, len(histograms[row]))
            made = tokenizer.decode_indices(tokens).clamp(-1, 1)
            scores.add(row, "psnr", psnr(made, real))
            scores.add(row, "ssim", ssim(made, real))
            scores.add(row, "feature distance", features.distance(made, real))
            kept = (tokens[:, 1] == tokens[:, 2]).float().mean((1, 2))
            scores.add(row, "tokens kept from frame 1 to 2", kept)
            shown.append(made)
        if len(pictures) < 12:
            pictures += [strip(to_uint8(video[0]), every=2) for video in shown]
    usage = {
        row: {"usage": float(code_usage(h)), "perplexity": float(perplexity(h))}
        for row, h in histograms.items()
    }
    scores.write_csv(out / "clips.csv")
    write_json(
        out / "evaluation.json",
        {
            "kind": "discrete tokenizers",
            "num_clips": len(scores.keys),
            "rows": plain_intervals(scores.intervals(SEED)),
            "codes": usage,
            "weights_sha256": {row: sha256_file(path / TENSORS) for row, path in ROWS.items()},
            "data_manifest_sha256": data.manifest_sha256,
        },
    )
    write_png(out / "strip.png", stack_rows(pictures))
    for row, part in scores.intervals(SEED).items():
        print(row, {m: f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" for m, i in part.items()})
        print(row, usage[row])


if __name__ == "__main__":
    main(sys.argv[1:])
