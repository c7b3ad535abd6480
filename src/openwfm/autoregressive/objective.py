"""The training objective: next-token cross-entropy and z-loss (arXiv 2501.03575, section 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class NextTokenConfig:
    """``z_loss`` weighs the squared logarithm of the normaliser (the paper's 3e-4).

    A world must be given ``min_frames`` latent frames and may be given up to ``max_frames``.
    Training counts every token after the first ``min_frames``: in a causal network a token is
    foreseen from the same past however many frames are given. ``text_dropout`` replaces a prompt
    by nothing.
    """

    z_loss: float = 3e-4
    min_frames: int = 1
    max_frames: int = 2
    text_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.z_loss >= 0:
            raise ValueError(f"objective.z_loss={self.z_loss}: must be at least 0")
        if not 0 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"objective.min_frames={self.min_frames}: must be in 0..{self.max_frames}, "
                "objective.max_frames"
            )
        if not 0 <= self.text_dropout < 1:
            raise ValueError(f"objective.text_dropout={self.text_dropout}: must be in [0, 1)")


@dataclass(frozen=True)
class NextTokenLoss:
    """``loss`` = ``cross_entropy`` + weighted ``z``; ``accuracy`` of the likeliest token by latent
    frame, NaN where nothing was counted."""

    loss: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    z: Float[Tensor, ""]
    accuracy: Float[Tensor, " f"]


def counted_targets(
    num_given: Int[Tensor, " b"], frame_tokens: int, num_frames: int
) -> Bool[Tensor, "b n"]:
    """Which tokens of a clip are predicted: those after the given frames, never the very first of
    a clip without a begin of video (see `next_token_loss`)."""
    frame = torch.arange(num_frames * frame_tokens, device=num_given.device) // frame_tokens
    return frame >= num_given[:, None]


def next_token_loss(
    logits: Float[Tensor, "b m v"],
    tokens: Int[Tensor, "b n"],
    counted: Bool[Tensor, "b n"],
    frame_tokens: int,
    z_weight: float,
) -> NextTokenLoss:
    """Of a clip's ``tokens`` (without its begin) and the logits that foresee their last m.

    m is n at most with a begin of video, whose logits foresee the first token, and n - 1 without;
    logits of tokens that are not counted may be left out. Both terms are means over counted
    targets alone; fp32.
    """
    foreseen = logits.shape[1]
    targets, used = tokens[:, -foreseen:], counted[:, -foreseen:]
    if not bool(used.any()):
        raise ValueError("targets: none is counted; give fewer frames than the clip has")
    if foreseen > tokens.shape[1] or bool(counted[:, 1:-foreseen].any()):
        raise ValueError(
            f"logits: of {foreseen} positions: must be of the {tokens.shape[1]} tokens, or of "
            "the last of them with all that are counted"
        )
    # Where all are counted nothing is copied.
    everything = bool(used.all())
    chosen = logits.flatten(0, 1) if everything else logits[used]
    chosen, wanted = chosen.float(), targets[used].long()
    cross_entropy = F.cross_entropy(chosen, wanted)
    z = chosen.logsumexp(-1).square().mean()
    frame = torch.arange(tokens.shape[1], device=tokens.device)[-foreseen:] // frame_tokens
    at = frame.expand_as(used)[used]
    frames = -(-tokens.shape[1] // frame_tokens)
    right = torch.zeros(frames, device=chosen.device)
    right = right.index_add_(0, at, (chosen.argmax(-1) == wanted).float())
    total = torch.zeros_like(right).index_add_(0, at, torch.ones_like(at, dtype=right.dtype))
    return NextTokenLoss(cross_entropy + z_weight * z, cross_entropy, z, right / total)
