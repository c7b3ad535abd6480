"""How much of a clip survives a tokenizer?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from tqdm import tqdm

from openwfm.data.batch import VideoBatch
from openwfm.evaluation.futures import Example
from openwfm.evaluation.metrics import Interval, psnr, ssim
from openwfm.evaluation.table import Scores, plain_intervals

TOKENIZER, MEAN = "tokenizer", "mean colour"


@dataclass(frozen=True, kw_only=True)
class ReconstructionReport:
    """Metrics of all frames. ``num_in`` = ``num_evaluated`` + the number ``rejected``."""

    num_in: int
    num_evaluated: int
    rejected: dict[str, str]
    rows: dict[str, dict[str, Interval]]
    scores: Scores
    examples: list[Example]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "reconstruction",
            "num_in": self.num_in,
            "num_evaluated": self.num_evaluated,
            "rejected": self.rejected,
            "rows": plain_intervals(self.rows),
        }


def evaluate_reconstruction(
    reconstruct: Callable[[Tensor], Tensor],
    batches: Iterable[VideoBatch],
    *,
    seed: int = 0,
    num_examples: int = 6,
    progress: bool = False,
) -> ReconstructionReport:
    """PSNR and SSIM of clips through ``reconstruct`` (b c t h w to the same), with intervals.

    The other row is the floor: each clip painted in its mean colour. Clips whose reconstruction is
    not finite are rejected with that reason. Raises ValueError when no clip is left.
    """
    examples: list[Example] = []
    rejected: dict[str, str] = {}
    scores, num_in = Scores(), 0
    for batch in tqdm(batches, desc="evaluate", disable=not progress):
        if batch.video is None:
            raise ValueError("batch: has no video to compare with")
        made = reconstruct(batch.video).clamp(-1, 1)
        for i, key in enumerate(batch.key):
            num_in += 1
            real, guess = batch.video[i : i + 1], made[i : i + 1]
            if not (guess.isfinite().all() and real.isfinite().all()):
                rejected[f"{num_in - 1}:{key}"] = "not finite"
                continue
            scores.keys.append(key)
            flat = real.mean(dim=(2, 3, 4), keepdim=True).expand_as(real)
            for row, video in ((TOKENIZER, guess), (MEAN, flat)):
                scores.add(row, "psnr", psnr(video, real))
                scores.add(row, "ssim", ssim(video, real))
            if len(examples) < num_examples and key not in {e.key for e in examples}:
                examples.append(
                    Example(
                        key=key,
                        caption=batch.caption[i] if batch.caption else "",
                        fps=float(batch.fps[i]),
                        condition_frames=0,
                        real=real[0],
                        made=guess[0],
                    )
                )
    if not scores.keys:
        raise ValueError(f"evaluate: none of {num_in} clips could be evaluated")
    assert num_in == len(scores.keys) + len(rejected)
    return ReconstructionReport(
        num_in=num_in,
        num_evaluated=len(scores.keys),
        rejected=rejected,
        rows=scores.intervals(seed),
        scores=scores,
        examples=examples,
    )
