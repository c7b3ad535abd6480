"""evaluation.json of every job of a sweep as one CSV, for the notebook.

    openwfm evaluate -m run=runs/005 condition_latents=0 num_clips=208 num_examples=0 \\
        guidance=0,1,3,7 num_steps=4,10,35 'out=runs/005/sweep/s${num_steps}_g${guidance}'
    python experiments/005_nano_text2world/collect.py runs/005/sweep

Widths are trainings of their own (`openwfm train -m … model.net.width=128,256 model.weights=null`),
each with a sweep; their folders may be given together.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from openwfm.evaluation.obedience import GENERATED, METRICS
from openwfm.files import read_json

OUT = Path(__file__).with_name("sweep.csv")


def main(folders: list[str]) -> int:
    rows = []
    for folder in folders:
        for file in sorted(Path(folder).glob("*/evaluation.json")):
            report = read_json(file)
            sampler, found = report["settings"]["sampler"], report["rows"][GENERATED]
            row = {"weights": report["weights_sha256"][:12], "num_clips": report["num_evaluated"]}
            row |= {"guidance": sampler["guidance"], "num_steps": sampler["num_steps"]}
            for metric in METRICS:
                interval = found[metric]
                row |= {metric: interval["mean"]}
                row |= {f"{metric}_{end}": interval[end] for end in ("low", "high")}
            rows.append(row)
    if not rows:
        print(f"error: no evaluation.json below {', '.join(folders)}")
        return 1
    rows.sort(key=lambda row: (row["weights"], row["guidance"], row["num_steps"]))
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows: {OUT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
