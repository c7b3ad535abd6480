"""How many tokens of held-out clips does an autoregressive world foresee, beside copying?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from openwfm.autoregressive.model import AutoregressiveWorldModel, StepDraws
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.data.batch import VideoBatch
from openwfm.evaluation.metrics import Interval
from openwfm.evaluation.table import Scores, plain_interval, plain_intervals
from openwfm.tokenizer import VideoTokenizer

FORCED, FREE = "teacher forced", "free running"
COPY, STALE = "copy previous frame", "copy last given frame"


@dataclass(frozen=True, kw_only=True)
class TokenReport:
    """Shares of right tokens by latent frame, as intervals over clips.

    ``teacher forced`` sees the true tokens before each, and so does ``copy previous frame``;
    ``free running`` sees the given frames alone, and so does ``copy last given frame``.
    ``differences`` are of each to its copy. ``entropy`` is that of the network's distribution at
    each place of the last frame, in nats, the mean over clips.
    """

    num_clips: int
    given: int
    rows: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    cross_entropy: Interval
    entropy: Float[Tensor, "y x"]
    scores: Scores = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "tokens",
            "num_clips": self.num_clips,
            "given": self.given,
            "rows": plain_intervals(self.rows),
            "differences": plain_intervals(self.differences),
            "cross_entropy": plain_interval(self.cross_entropy),
        }

    @property
    def beats_copy(self) -> bool:
        """Whether every interval of a difference lies above zero."""
        return all(i.low > 0 for part in self.differences.values() for i in part.values())


@torch.no_grad()
def evaluate_tokens(
    model: AutoregressiveWorldModel,
    tokenizer: VideoTokenizer,
    batches: Iterable[VideoBatch],
    *,
    given: int = 2,
    seed: int = 0,
    progress: bool = False,
) -> TokenReport:
    """Greedy predictions of all frames after ``given`` latent frames.

    Raises ValueError when there are no clips, or no frame is left to predict.
    """
    scores, entropies = Scores(), []
    for batch in tqdm(batches, desc="tokens", disable=not progress):
        if batch.video is None:
            raise ValueError(f"batch {batch.key}: has no video")
        truth = tokenizer.encode_indices(batch.video).long()
        frames = truth.shape[1]
        if not 1 <= given < frames:
            raise ValueError(f"given={given}: must be in 1..{frames - 1}, the frames of a clip")
        logits = _forced_logits(model, truth, batch)
        # The last tokens are foreseen by the last logits, with and without a begin of video.
        wanted = truth[:, given:].flatten(1)
        logits = logits[:, -wanted.shape[1] :]
        greedy = SamplerConfig(temperature=0.0)
        free = model.generate(truth[:, :given], frames, text=batch.text, sampler=greedy)
        guesses = {
            FORCED: logits.argmax(-1).view_as(truth[:, given:]),
            FREE: free[:, given:],
            COPY: truth[:, given - 1 : -1],
            STALE: truth[:, given - 1 : given].expand_as(truth[:, given:]),
        }
        scores.keys += list(batch.key)
        for row, guess in guesses.items():
            right = (guess == truth[:, given:]).float().mean((2, 3))
            for frame in range(frames - given):
                scores.add(row, f"frame {given + frame}", right[:, frame])
            scores.add(row, "all", right.mean(1))
        lost = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted, reduction="none"
        ).mean(1)
        scores.add("cross entropy", "nats", lost)
        entropies.append(_entropy(logits, truth[:, given:])[:, -1])
    if not scores.keys:
        raise ValueError("tokens: there are no clips")
    metrics = list(scores.values[FORCED])
    pairs = {f"{FORCED} - {COPY}": (FORCED, COPY), f"{FREE} - {STALE}": (FREE, STALE)}
    cross_entropy = scores.values.pop("cross entropy")
    rows = scores.intervals(seed)
    scores.values["cross entropy"] = cross_entropy
    return TokenReport(
        num_clips=len(scores.keys),
        given=given,
        rows=rows,
        differences={
            name: {metric: scores.difference(*pair, metric, seed) for metric in metrics}
            for name, pair in pairs.items()
        },
        cross_entropy=scores.interval("cross entropy", "nats", seed),
        entropy=torch.cat(entropies).mean(0),
        scores=scores,
    )


def _forced_logits(
    model: AutoregressiveWorldModel, truth: Int[Tensor, "b f y x"], batch: VideoBatch
) -> Float[Tensor, "b m v"]:
    everything = StepDraws(torch.ones(len(truth), dtype=torch.bool))
    return model.net.logits(model.hidden(truth, everything, text=batch.text)).float()


def _entropy(
    logits: Float[Tensor, "b n v"], like: Int[Tensor, "b f y x"]
) -> Float[Tensor, "b f y x"]:
    return torch.special.entr(logits.softmax(-1)).sum(-1).view_as(like)
