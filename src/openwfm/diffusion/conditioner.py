"""What a sample is conditioned on: text, frame rate, given leading frames; and their dropout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openwfm.diffusion.config import ConditionerConfig
from openwfm.diffusion.control import Ports
from openwfm.diffusion.noise import log_normal
from openwfm.diffusion.views import fold_views, unfold_views
from openwfm.nn.attention import BranchKeys, Keys


@dataclass(frozen=True, kw_only=True)
class GivenFrames:
    """Leading latent frames (of each view) that are not generated; ``frames`` is true for them.

    ``clean`` and ``noised`` have all frames (only the given ones are read); ``noised`` carries
    noise of level ``sigma``.
    """

    frames: Bool[Tensor, "b 1 f 1 1"]
    clean: Float[Tensor, "b z f y x"]
    noised: Float[Tensor, "b z f y x"]
    sigma: Float[Tensor, " b"]
    num_views: int = 1

    def last_of(self, latents: Float[Tensor, "b z f y x"]) -> Float[Tensor, "b z f y x"]:
        """The last given frame of ``latents`` in every frame after it; zero in given frames, and
        everywhere in a sample without given frames."""
        frames, latents = (fold_views(part, self.num_views) for part in (self.frames, latents))
        count = frames.sum(dim=2, keepdim=True)
        index = (count - 1).clamp(min=0).expand(-1, latents.shape[1], 1, *latents.shape[3:])
        last = latents.gather(2, index).masked_fill(frames | (count == 0), 0.0)
        return unfold_views(last, self.num_views)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What fills the network's ports. ``null_tokens`` all-zero text tokens follow ``text``;
    ``repeat_last`` shows the last given frame to the later ones, before ``ports.channels``;
    ``codes`` are tokens of a discrete tokenizer."""

    text: Float[Tensor, "b *v n d"] | list[Keys] | list[BranchKeys]
    null_tokens: int
    fps: Float[Tensor, " b"]
    padding_mask: Float[Tensor, "b 1 h w"] | None = None
    given: GivenFrames | None = None
    repeat_last: bool = False
    ports: Ports = Ports()
    codes: Int[Tensor, "b f r c"] | None = None

    def with_unconditional(self, text: Float[Tensor, "#b n d"] | None = None) -> Condition:
        """A batch of twice the size whose second half has ``text`` (None: no text) instead, and
        token 0 everywhere."""
        assert isinstance(self.text, Tensor)
        other = torch.zeros_like(self.text) if text is None else text.expand(len(self.text), -1, -1)
        length = max(self.text.shape[1], other.shape[1])
        halves = [F.pad(half, (0, 0, 0, length - half.shape[1])) for half in (self.text, other)]
        given = self.given
        if given is not None:
            given = replace(
                given,
                frames=_twice(given.frames),
                clean=_twice(given.clean),
                noised=_twice(given.noised),
                sigma=_twice(given.sigma),
            )
        return Condition(
            text=torch.cat(halves),
            null_tokens=self.null_tokens + self.text.shape[1] - length,
            fps=_twice(self.fps),
            padding_mask=_twice_or_none(self.padding_mask),
            given=given,
            repeat_last=self.repeat_last,
            ports=Ports(
                channels=_twice_or_none(self.ports.channels),
                modulation=_twice_or_none(self.ports.modulation),
            ),
            codes=None
            if self.codes is None
            else torch.cat((self.codes, torch.zeros_like(self.codes))),
        )


def _twice_or_none(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _twice(tensor)


def _twice(tensor: Tensor) -> Tensor:
    return torch.cat((tensor, tensor))


def used_length(text: Float[Tensor, "b n d"]) -> int:
    """Tokens up to the last one that is not all zero in the whole batch."""
    used = (text != 0).any(dim=-1).any(dim=0).nonzero()
    return int(used[-1]) + 1 if len(used) else 0


@dataclass(frozen=True)
class Draws:
    """All random numbers of a training step's conditioning, so that a test can fix them."""

    keep_text: Bool[Tensor, " b"]
    num_frames: Tensor
    sigma: Float[Tensor, " b"]
    noise: Float[Tensor, "b z f y x"]
    keep_codes: Bool[Tensor, " b"]

    @classmethod
    def of(cls, config: ConditionerConfig, shape: torch.Size, generator: torch.Generator) -> Draws:
        """Every number is drawn whatever the rates, so that a rate does not shift the others."""
        b = shape[0]
        keep_text = torch.rand(b, generator=generator) >= config.text_dropout
        count = torch.randint(config.min_frames, config.max_frames + 1, (b,), generator=generator)
        keep_frames = torch.rand(b, generator=generator) >= config.frames_dropout
        sigma = log_normal(
            b, p_mean=config.augment_p_mean, p_std=config.augment_p_std, generator=generator
        )
        noise = torch.randn(shape, generator=generator)
        keep_codes = torch.rand(b, generator=generator) >= config.codes_dropout
        return cls(keep_text, count * keep_frames, sigma, noise, keep_codes)

    @classmethod
    def stack(cls, parts: list[Draws]) -> Draws:
        return cls(
            torch.cat([part.keep_text for part in parts]),
            torch.cat([part.num_frames for part in parts]),
            torch.cat([part.sigma for part in parts]),
            torch.cat([part.noise for part in parts]),
            torch.cat([part.keep_codes for part in parts]),
        )


class Conditioner:
    """Builds conditions for training and for sampling; holds no parameters."""

    def __init__(self, config: ConditionerConfig, num_views: int = 1) -> None:
        self.config, self.num_views = config, num_views

    def text(self, tokens: Float[Tensor, "b *v n d"] | None) -> tuple[Tensor, int]:
        """Tokens trimmed to the longest prompt of the batch, and how many zero tokens follow.

        Raises ValueError when the embedding is missing, of another width, or too long.
        """
        config = self.config
        encoder = f"conditioner.text_encoder={config.text_encoder}"
        if tokens is None:
            raise ValueError(
                f"batch.text: missing: {encoder} needs token embeddings {config.text_width} wide; "
                "curate with a text stage"
            )
        views = () if self.num_views == 1 else (self.num_views,)
        fits = tuple(tokens.shape[1:-2]) == views and tokens.ndim == 3 + len(views)
        if not fits or tokens.shape[-1] != config.text_width:
            shape = ", ".join(["batch", *map(str, views), "tokens", str(config.text_width)])
            raise ValueError(
                f"batch.text: shape {tuple(tokens.shape)}: must be ({shape}) for {encoder}"
            )
        length = used_length(tokens.flatten(0, -3))
        if length > config.text_tokens:
            raise ValueError(
                f"batch.text: {length} tokens: must be at most "
                f"conditioner.text_tokens={config.text_tokens}"
            )
        return tokens[..., :length, :].float(), config.text_tokens - length

    def training(
        self,
        latents: Float[Tensor, "b z f y x"],
        draws: Draws,
        *,
        text: Float[Tensor, "b n d"] | None,
        fps: Float[Tensor, " b"],
        padding_mask: Float[Tensor, "b 1 h w"] | None,
        codes: Int[Tensor, "b f r c"] | None = None,
    ) -> Condition:
        """``latents`` normalised. ``draws`` drop text, given frames and tokens of some samples.

        Latents of a single frame are images, of which no frame is given.
        """
        total = latents.shape[2] // self.num_views
        image = total == 1
        if self.config.max_frames >= total and not image:
            raise ValueError(
                f"conditioner.max_frames={self.config.max_frames}: must be below the "
                f"{total} latent frames of a clip"
            )
        if self.config.text_encoder == "none":
            text = self._no_text(latents)
        tokens, null_tokens = self.text(text)
        device = latents.device
        if codes is not None:
            codes = codes * draws.keep_codes.to(device)[:, None, None, None]
        condition = Condition(
            text=tokens * draws.keep_text.to(device).view(-1, *[1] * (tokens.ndim - 1)),
            null_tokens=null_tokens,
            fps=fps,
            padding_mask=padding_mask,
            repeat_last=self.config.repeat_last,
            codes=codes,
        )
        if self.config.max_frames == 0 or image:
            return condition
        index = torch.arange(total, device=device).repeat(self.num_views)
        frames = index[None] < draws.num_frames.to(device)[:, None]
        return replace(condition, given=self._given(frames, latents, draws.sigma, draws.noise))

    def _no_text(self, like: Tensor) -> Tensor:
        views = () if self.num_views == 1 else (self.num_views,)
        return like.new_zeros(len(like), *views, 0, self.config.text_width)

    def _given(self, frames: Tensor, clean: Tensor, sigma: Tensor, noise: Tensor) -> GivenFrames:
        level = sigma.to(clean.device)
        return GivenFrames(
            frames=frames[:, None, :, None, None],
            clean=clean,
            noised=clean + level.view(-1, 1, 1, 1, 1) * noise.to(clean.device),
            sigma=level,
            num_views=self.num_views,
        )

    def sampling(
        self,
        given: Float[Tensor, "b z k y x"] | None,
        noise: Float[Tensor, "b z f y x"],
        sigma: float,
        *,
        text: Float[Tensor, "b n d"] | None,
        fps: Float[Tensor, " b"],
        codes: Int[Tensor, "b f r c"] | None = None,
    ) -> Condition:
        """``given`` normalised leading frames (of each view), to which ``noise`` of level ``sigma``
        is added.

        Raises ValueError for more given frames than the model was trained with, or than the clip.
        """
        if text is None:
            text = self._no_text(noise)
        _check_shape("batch.text", text, (len(noise), *text.shape[1:]))
        if given is not None:
            _check_shape("condition", given, (*noise.shape[:2], given.shape[2], *noise.shape[3:]))
        tokens, null_tokens = self.text(text)
        condition = Condition(
            text=tokens,
            null_tokens=null_tokens,
            fps=fps,
            repeat_last=self.config.repeat_last,
            codes=codes,
        )
        if given is None:
            return condition
        views = self.num_views
        count, total = given.shape[2] // views, noise.shape[2] // views
        limit = min(self.config.max_frames, total - 1)
        if not 1 <= count <= limit:
            raise ValueError(
                f"condition: {count} latent frames given: must be between 1 and {limit} "
                f"(conditioner.max_frames={self.config.max_frames}, {total} frames in all)"
            )
        clean = unfold_views(F.pad(fold_views(given, views), (0, 0, 0, 0, 0, total - count)), views)
        index = torch.arange(total, device=noise.device).repeat(views)
        frames = (index < count).expand(len(noise), -1)
        levels = torch.full((len(noise),), sigma)
        return replace(condition, given=self._given(frames, clean, levels, noise))


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}: must be {shape}")
