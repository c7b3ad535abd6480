"""evaluation.json of every job of a sweep as one CSV, and its picture; for README and notebook.

    for width in 128 256; do
        openwfm train experiment=005_nano_text2world trainer=cpu_bf16 model.optimizer.fused=false \\
            num_threads=1 data.config.shards=data/groups model.weights=null \\
            model.net.width=$width \\
            trainer.max_steps=1200 trainer.val_check_interval=300 run=runs/005w/$width
        openwfm evaluate -m run=runs/005w/$width condition_latents=0 num_clips=96 num_examples=0 \\
            batch_size=48 guidance=0,1,3,7 num_steps=4,10,35 \\
            'out=runs/005w/sweep/$width/s${num_steps}_g${guidance}'
    done
    python experiments/005_nano_text2world/collect.py runs/005w/sweep/*

Each folder of jobs is one model, of its name; the published weights are evaluated likewise.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from openwfm.evaluation.obedience import GENERATED, METRICS
from openwfm.files import read_json

OUT = Path(__file__).with_name("sweep.csv")


def main(folders: list[str]) -> int:
    rows = []
    for folder in folders:
        for file in sorted(Path(folder).glob("*/evaluation.json")):
            report = read_json(file)
            sampler, found = report["settings"]["sampler"], report["rows"][GENERATED]
            row = {"model": Path(folder).name, "weights": report["weights_sha256"][:12]}
            row |= {"num_clips": report["num_evaluated"]}
            row |= {"guidance": sampler["guidance"], "num_steps": sampler["num_steps"]}
            for metric in METRICS:
                interval = found[metric]
                row |= {metric: interval["mean"]}
                row |= {f"{metric}_{end}": interval[end] for end in ("low", "high")}
            rows.append(row)
    if not rows:
        print(f"error: no evaluation.json below {', '.join(folders)}")
        return 1
    rows.sort(key=lambda row: (row["model"], row["guidance"], row["num_steps"]))
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows)
    print(f"{len(rows)} rows: {OUT}")
    return 0


def plot(rows: list[dict[str, Any]]) -> None:
    """Share of prompts obeyed, colour and number, by guidance; a panel a model, a line a number of
    steps; bars are 95 % intervals."""
    import matplotlib.pyplot as plt

    models = sorted({row["model"] for row in rows})
    figure, axes = plt.subplots(
        1, len(models), figsize=(3.6 * len(models), 3), sharey=True, squeeze=False, layout="tight"
    )
    for axis, model in zip(axes[0], models, strict=True):
        own = [row for row in rows if row["model"] == model]
        for steps in sorted({row["num_steps"] for row in own}):
            line = [row for row in own if row["num_steps"] == steps]
            mean = [row["both"] for row in line]
            ends = [
                [abs(row[f"both_{end}"] - row["both"]) for row in line] for end in ("low", "high")
            ]
            where = [row["guidance"] for row in line]
            axis.errorbar(where, mean, ends, fmt="-o", ms=3, capsize=2, label=f"{steps} steps")
        axis.set_title(model, loc="left", fontsize=9)
        axis.set_xlabel("guidance")
        axis.legend(fontsize=7, frameon=False)
    axes[0][0].set_ylabel("prompts obeyed")
    axes[0][0].set_ylim(bottom=0)  # after every panel has drawn: the axis is shared
    figure.savefig(OUT.with_suffix(".png"), dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
