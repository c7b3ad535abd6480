"""Watch an autoregressive model: given the truth before each token, and left to itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

import lightning as L
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openwfm.callbacks.samples import SampleVideos
from openwfm.data.batch import VideoBatch
from openwfm.files import write_json

DARK = 0.35  # brightness of what a wrong token shows


@runtime_checkable
class Tokens(Protocol):
    """What a LightningModule offers so that its tokens can be compared with the truth.

    ``sample_tokens`` names rows of tokens ``b f y x``, the truth first; ``decode_tokens`` makes
    them videos in [-1, 1].
    """

    def sample_tokens(self, batch: VideoBatch) -> Mapping[str, Tensor]: ...

    def decode_tokens(self, tokens: Tensor) -> Tensor: ...


class TeacherForced(SampleVideos):
    """The rows of `SampleVideos`, one below the other, each wrong token darkened.

    ``folder/step_NNNNNNN.json`` has the share of right tokens by row and latent frame. In the row
    ``free`` that falls from frame to frame as mistakes pile up.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Tokens):
            raise ValueError(
                f"callbacks.samples: {type(pl_module).__name__} has no sample_tokens(batch) and "
                "decode_tokens(tokens); use openwfm.callbacks.SampleVideos"
            )

    def rows(
        self, module: L.LightningModule, batch: VideoBatch, step: int
    ) -> Mapping[str, Float[Tensor, "b c t h w"]]:
        rows = cast(Tokens, module).sample_tokens(batch)
        truth = next(iter(rows.values()))
        right = {name: row == truth for name, row in rows.items()}
        shares: dict[str, Any] = {
            name: share.float().mean((0, 2, 3)).tolist() for name, share in right.items()
        }
        write_json(self.folder / f"step_{step:07d}.json", {"step": step, "right": shares})
        return {
            name: darken(cast(Tokens, module).decode_tokens(row), right[name])
            for name, row in rows.items()
        }


def darken(
    video: Float[Tensor, "b c t h w"], right: Bool[Tensor, "b f y x"]
) -> Float[Tensor, "b c t h w"]:
    """Pixels whose token is not ``right``, darker. Latent frame 0 is a frame, others are several.

    Raises ValueError for sizes that are no multiple of the tokens'.
    """
    frames, height, width = video.shape[2:]
    latent, rows, columns = right.shape[1:]
    if height % rows or width % columns or (frames - 1) % max(1, latent - 1):
        raise ValueError(
            f"video: {frames} frames of {height}x{width}: must fit {latent} latent frames of "
            f"{rows}x{columns}"
        )
    of_frame: Int[Tensor, " t"] = torch.arange(frames, device=video.device)
    if latent > 1:
        of_frame = -(-of_frame * (latent - 1) // (frames - 1))  # rounded up: 0, 1…1, 2…2
    shown = right[:, of_frame]
    shown = shown.repeat_interleave(height // rows, 2).repeat_interleave(width // columns, 3)
    bright = torch.where(shown, 1.0, DARK)[:, None]
    return (video + 1) * bright - 1
