"""Clips of any length in memory of fixed size: a chunk in, its part of the whole-clip result out.

The networks are causal, so what a layer needs of the past is small and known: two frames before a
convolution, one before a strided one, keys and values of the frames that attention still sees
(`openwfm.nn.causal.Past`). With ``attention_window`` nothing grows; without it, the keys and values
of the two attentions in time do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.nn.causal import Past
from openwfm.tokenizer.checks import (
    Pad,
    Size,
    check_crop,
    check_frames,
    check_latents,
    check_pad,
    check_range,
    pad_sides,
)
from openwfm.tokenizer.config import TokenizerConfig

Chunk = Callable[[Tensor, Past], Tensor]
STEP_CELLS = 10_240  # wavelet cells of a step: 5 latent frames of 128x128 pixels, 1 of 256x256


def latents_per_step(config: TokenizerConfig, pixels: int) -> int:
    """Latent frames to work on at a time, of clips with ``pixels`` in a frame, together.

    Inference takes long clips in such steps: activations take less memory, and each step
    is still large enough for the weights to be read seldom.
    """
    patch = config.patch_size
    depth = 1 if config.is_image else config.temporal_compression // patch
    return max(1, STEP_CELLS // max(1, depth * pixels // patch**2))


def in_steps(step: Chunk, chunks: Iterable[Tensor], num_frames: int) -> Tensor:
    """What ``step`` makes of a clip's chunks, ``num_frames`` in all along dimension 2."""
    past, start, out = Past(), 0, None
    for chunk in chunks:
        result = step(chunk, past)
        past.started = True
        if out is None:
            out = result.new_empty(*result.shape[:2], num_frames, *result.shape[3:])
        out[:, :, start : start + result.shape[2]] = result
        start += result.shape[2]
    assert out is not None and start == num_frames, (start, num_frames)
    return out


class _Stream:
    """Counts frames, refuses chunks that do not continue the clip, and keeps the state."""

    def __init__(self, step: Chunk, config: TokenizerConfig) -> None:
        self.config = config
        self.num_pushed = 0  # frames (or latent frames) so far
        self._step, self._past, self._finished = step, Past(), False
        self._kind: tuple[object, ...] | None = None
        self._size = torch.Size()

    def _admit(self, chunk: Tensor) -> None:
        if self._finished:
            raise ValueError("stream: is finished; another clip needs another stream")
        kind = (chunk.dtype, chunk.device, chunk.shape[:2], chunk.shape[3:])
        if self._kind is not None and kind != self._kind:
            names = ("type", "device", "batch and channels", "height and width")
            changed = [
                f"{name} {new}, before {old}"
                for name, new, old in zip(names, kind, self._kind, strict=True)
                if new != old
            ]
            raise ValueError(f"stream: the chunk does not continue the clip: {'; '.join(changed)}")
        self._kind, self._size = kind, chunk.shape[3:]
        self.num_pushed += chunk.shape[2]

    @torch.no_grad()
    def _run(self, x: Tensor) -> Tensor:
        result = self._step(x, self._past)
        self._past.started = True
        return result

    def _require_clip(self) -> None:
        if self._finished:
            raise ValueError("stream: is finished already")
        if self.num_pushed == 0:
            raise ValueError("stream: finished before its first frame; at least 1 is missing")

    @property
    def num_state_elements(self) -> int:
        """Numbers carried from chunk to chunk."""
        return self._past.num_elements


class StreamEncoder(_Stream):
    """``push`` frames in chunks of any length; latents come out as their groups are complete.

    Put together they equal ``encode`` of the whole clip, up to the order of floating-point sums;
    ``pad`` is that of ``encode``. There are no gradients.
    """

    def __init__(self, step: Chunk, config: TokenizerConfig, pad: Pad = None) -> None:
        super().__init__(step, config)
        check_pad(pad)
        self._pad = pad
        self._waiting: Tensor | None = None

    def push(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b z f y x"]:
        """Latents of the groups that these frames complete; f may be 0.

        Raises ValueError as ``encode`` does, and when batch, size or type change.
        """
        if self._pad is not None:
            video = pad_sides(video, self.config)
        check_frames(video, self.config)
        check_range(video)
        self._admit(video)
        frames = video if self._waiting is None else torch.cat((self._waiting, video), 2)
        ratio, count = self.config.temporal_compression, frames.shape[2]
        ready = count - (count if self._past.started else count - 1) % ratio if count else 0
        self._waiting = frames[:, :, ready:].clone()
        if ready:
            return self._run(frames[:, :, :ready])
        return self._nothing(frames)

    def _nothing(self, frames: Tensor) -> Tensor:
        size = (side // self.config.spatial_compression for side in frames.shape[3:])
        return frames.new_empty(len(frames), self.config.latent_channels, 0, *size)

    def finish(self) -> Float[Tensor, "b z f y x"]:
        """Ends the clip. With ``pad`` its last frame is repeated to complete a group of frames.

        Raises ValueError, saying how many frames are missing, when the clip ends inside a group and
        there is no ``pad``; the stream can go on then.
        """
        self._require_clip()
        waiting, ratio = self._waiting, self.config.temporal_compression
        assert waiting is not None
        missing = -(self.num_pushed - 1) % ratio
        if missing and self._pad is None:
            raise ValueError(
                f"stream: ended after {self.num_pushed} frames, inside a group of {ratio}: "
                f"{missing} frames are missing to {self.num_pushed + missing} = 1 + {ratio}·n"
            )
        self._finished = True
        if not missing:
            return self._nothing(waiting)
        return self._run(
            torch.cat((waiting, waiting[:, :, -1:].expand(-1, -1, missing, -1, -1)), 2)
        )

    @property
    def num_state_elements(self) -> int:
        """Numbers carried from chunk to chunk, waiting pixels included."""
        waiting = 0 if self._waiting is None else self._waiting.numel()
        return super().num_state_elements + waiting


class StreamDecoder(_Stream):
    """``push`` latents in chunks of any length; all of their frames come out at once.

    Put together they equal ``decode`` of all latents, up to the order of floating-point sums.
    ``crop`` is the (t, h, w) of a clip that was padded for encoding. There are no gradients.
    """

    def __init__(self, step: Chunk, config: TokenizerConfig, crop: Size | None = None) -> None:
        super().__init__(step, config)
        self._crop = crop

    def push(self, latents: Float[Tensor, "b z f y x"]) -> Float[Tensor, "b c t h w"]:
        """The frames of these latents. Raises ValueError as ``decode`` does."""
        check_latents(latents, self.config)
        self._admit(latents)
        frames = self._run(latents)
        if self._crop is None:
            return frames
        t, h, w = self._crop
        end = int(self.config.temporal.frames(self.num_pushed))
        check_crop((end, h, w), (self.num_pushed, *latents.shape[3:]), self.config)
        keep = max(0, frames.shape[2] - max(0, end - t))
        return frames[:, :, :keep, :h, :w]

    def finish(self) -> None:
        """Ends the clip. Raises ValueError when nothing came, or when ``crop`` does not fit it."""
        self._require_clip()
        if self._crop is not None:
            check_crop(self._crop, (self.num_pushed, *self._size), self.config)
        self._finished = True
