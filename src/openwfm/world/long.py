"""Videos longer than training, as chunks that are chained in latent space.

A chunk has the length of training. It is given the last latent frames of the one before as they
are: nothing is decoded and encoded again, which would add the tokenizer's error at every border
(arXiv 2501.03575's code decodes, and encodes the last frames again). All latents go through one
streaming decoder, so a border is no border to it.

**A chunk's first frame.** The tokenizer is causal: the first latent frame of a *video* stands for
one pixel frame, every later one for ``ratio``, and the two kinds have other means and deviations.
A model normalises its latents by their place in a clip, and has only seen clips that begin with
the first kind. Of a later chunk every frame is of the second kind, the given ones too. Two rules:

- ``absolute`` (default): by their place in the whole video; beyond the measured columns, the last.
  Every frame the network sees then has mean 0 and deviation sigma_data, as in training, and a
  frame that does not change keeps its normalised value over a border. What remains foreign is what
  the first place holds: ``ratio`` frames instead of one.
- ``relative``: by their place in the chunk, as the released code does. A given frame of the second
  kind is then normalised with the statistics of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.shapes import LatentFrames

STATISTICS = ("absolute", "relative")


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """How chunks are chained.

    ``overlap`` counts the latent frames that a chunk is given; None is as many as the world was
    trained for. ``condition_sigmas`` are the noise levels put on them, of the second chunk on; the
    last is repeated. Empty is the sampler's ``condition_sigma``, which the first chunk always has:
    the released code takes 0.2, then 0.5, with which the nano world of experiment 002 is 0.36 dB
    worse 33 to 48 frames on (experiment 006). ``statistics`` is ``absolute`` or ``relative``, see
    the module.
    """

    overlap: LatentFrames | int | None = None
    condition_sigmas: tuple[float, ...] = ()
    statistics: str = "absolute"

    def __post_init__(self) -> None:
        if self.overlap is not None:
            if type(self.overlap) not in (int, LatentFrames):
                raise ValueError(f"overlap={self.overlap}: must be a whole number of latent frames")
            object.__setattr__(self, "overlap", LatentFrames(int(self.overlap)))
        sigmas = self.condition_sigmas
        if not isinstance(sigmas, list | tuple) or not all(
            isinstance(sigma, int | float) and 0 < sigma < 1e4 for sigma in sigmas
        ):
            raise ValueError(
                f"condition_sigmas={self.condition_sigmas}: must be a list of positive numbers"
            )
        object.__setattr__(self, "condition_sigmas", tuple(sigmas))
        if self.statistics not in STATISTICS:
            raise ValueError(
                f"statistics={self.statistics}: must be one of {', '.join(STATISTICS)}"
            )


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """``length`` latent frames from ``start`` of the video on; the first ``overlap`` of them are
    the last of the chunk before, the next ``new`` become part of the video, the rest is dropped."""

    number: int
    start: LatentFrames
    length: LatentFrames
    overlap: LatentFrames
    new: LatentFrames

    def sigma(self, chunking: Chunking) -> float | None:
        """Noise on what it is given; None: the sampler's."""
        sigmas = chunking.condition_sigmas
        if not self.number or not sigmas:
            return None
        return sigmas[min(self.number, len(sigmas)) - 1]

    def columns(self, chunking: Chunking) -> LatentFrames:
        """Place of its first frame among the statistics of latents."""
        return self.start if chunking.statistics == "absolute" else LatentFrames(0)


def plan_chunks(
    total: LatentFrames, *, window: LatentFrames, overlap: LatentFrames, limit: LatentFrames
) -> list[Chunk]:
    """Chunks of ``window`` latent frames for a video of ``total``, at least ``window``.

    All have the length of training; of the last, what the video does not need is dropped.
    ``limit`` is how many frames the world can be given. Raises ValueError for an overlap that
    does not fit.
    """
    if not 1 <= overlap <= min(limit, window - LatentFrames(1)):
        raise ValueError(
            f"overlap={int(overlap)}: must be between 1 and {int(limit)}, the latent frames this "
            f"world was trained to continue, and below the {int(window)} of a chunk"
        )
    chunks, done = [one_pass(window)], window
    while done < total:
        new = min(window - overlap, total - done)
        chunks.append(
            Chunk(number=len(chunks), start=done - overlap, length=window, overlap=overlap, new=new)
        )
        done = done + new
    return chunks


def one_pass(total: LatentFrames) -> Chunk:
    nothing = LatentFrames(0)
    return Chunk(number=0, start=nothing, length=total, overlap=nothing, new=total)


def chain(
    chunks: Sequence[Chunk],
    sample: Callable[[Chunk, Tensor | None], Float[Tensor, "b z f y x"]],
    given: Float[Tensor, "b z k y x"] | None,
) -> Iterator[Float[Tensor, "b z f y x"]]:
    """The video's latents, chunk by chunk, each frame once; keeps no more than an overlap.

    ``sample(chunk, given)`` makes all ``chunk.length`` frames; ``given`` begins the first chunk.
    """
    for chunk, after in zip(chunks, [*chunks[1:], None], strict=True):
        latents = sample(chunk, given)
        assert latents.shape[2] == chunk.length, (latents.shape, chunk)
        first = int(chunk.overlap)
        new = latents[:, :, first : first + int(chunk.new)]
        yield new
        if after is not None:
            known = torch.cat((given, new), dim=2) if chunk.number and given is not None else new
            given = known[:, :, -int(after.overlap) :].clone()  # no view that holds the whole


def chunk_facts(chunks: Sequence[Chunk], chunking: Chunking) -> dict[str, Any] | None:
    """What provenance says of them; None for a video made in one pass."""
    if not chunks:
        return None
    return {
        **asdict(chunking),
        "overlap": int(chunks[-1].overlap),
        "count": len(chunks),
        "latent_frames": int(chunks[0].length),
    }


def chunk_prompts(prompt: str, prompts: Sequence[str] | None, num_chunks: int) -> list[str]:
    """Those of a video: ``prompt``, or one a chunk. Raises ValueError for more than chunks."""
    if prompts is None:
        return [prompt]
    if isinstance(prompts, str) or prompt:
        raise ValueError("prompts: must be a list, one prompt a chunk, and stand alone")
    if not 1 <= len(prompts) <= num_chunks:
        raise ValueError(
            f"prompts: {len(prompts)} given: must be at least 1 and at most {num_chunks}, the "
            "chunks of this video"
        )
    return list(prompts)
