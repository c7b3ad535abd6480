"""VideoTokenizer: a causal wavelet autoencoder from clips (or images) to latents and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from openwfm.nn.causal import Past, PointwiseConv, at_start
from openwfm.nn.derived import infers
from openwfm.nn.wavelet import from_cells, haar_forward, haar_inverse, to_cells
from openwfm.shapes import Temporal
from openwfm.tokenizer.checks import (
    Pad,
    Size,
    check_clip,
    check_crop,
    check_dtype,
    check_indices,
    check_latents,
    check_range,
    pad_clip,
)
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.networks import Decoder, Encoder
from openwfm.tokenizer.quantize import codes_to_indices, fsq_codes, indices_to_codes
from openwfm.tokenizer.streaming import StreamDecoder, StreamEncoder, in_steps, latents_per_step
from openwfm.tokenizer.tiling import check_tile, decode_tiled, encode_tiled
from openwfm.weights import load_strict, read_weights

# Config fields that are younger than published weights, and what those weights mean by their lack.
YOUNGER_FIELDS: Mapping[str, Any] = {"fsq_levels": None, "attention_window": None}


class VideoTokenizer(nn.Module):
    """An autoencoder without sampling (arXiv 2501.03575, section 4.1); continuous or discrete.

    Causal in time: a latent frame depends on its own and earlier pixel frames only, and frame 0 is
    a latent frame by itself, so a single image is a clip of one frame. Latents of a discrete
    tokenizer are its codes, in [-1, 1]; of an image tokenizer, one latent frame a frame.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.to_latents = PointwiseConv(config.z_channels, config.latent_channels)
        self.from_latents = PointwiseConv(config.latent_channels, config.z_channels)
        self.decoder = Decoder(config)

    @property
    def temporal(self) -> Temporal:
        """Arithmetic between frames and latent frames."""
        return self.config.temporal

    def encode(
        self, video: Float[Tensor, "b c t h w"], *, pad: Pad = None, tile: int | None = None
    ) -> Float[Tensor, "b z f y x"]:
        """Latents of clips in [-1, 1]; not normalised.

        Raises ValueError when t is not 1 + temporal_compression·n, or h or w is no multiple of
        spatial_compression, naming the nearest sizes that are; with ``pad`` the last frame, row and
        column are repeated instead, and ``decode(…, crop=(t, h, w))`` cuts that off. Values that
        are not finite or outside [-1, 1] are a ValueError too.

        ``tile`` pixels a side are worked on at a time, for frames beyond memory: the result is the
        same, without gradients and for more work (`openwfm.tokenizer.tiling`).
        """
        check_tile(tile, self.config)
        video = pad_clip(video, self.config, pad)
        check_clip(video, self.config)
        check_dtype("video", video, self.to_latents.weight)
        check_range(video)
        return self.encode_chunk(video) if tile is None else encode_tiled(self, video, tile)

    def decode(
        self,
        latents: Float[Tensor, "b z f y x"],
        *,
        crop: Size | None = None,
        tile: int | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Clips of 1 + temporal_compression·(f - 1) frames; about [-1, 1], not clamped.

        ``crop`` is the (t, h, w) of a clip that was padded for encoding, ``tile`` that of
        :meth:`encode`. Raises ValueError when latents are misshapen or not finite, or when the clip
        cannot have had that size.
        """
        check_tile(tile, self.config)
        check_latents(latents, self.config)
        check_dtype("latents", latents, self.from_latents.weight)
        t, h, w = check_crop(crop, latents.shape[2:], self.config)
        video = self.decode_chunk(latents) if tile is None else decode_tiled(self, latents, tile)
        return video[:, :, :t, :h, :w]

    def encode_indices(
        self, video: Float[Tensor, "b c t h w"], *, pad: Pad = None, tile: int | None = None
    ) -> Int[Tensor, "b f y x"]:
        """int32 tokens of clips, 0 to ``config.num_codes`` - 1; see :meth:`encode`."""
        return self.indices(self.encode(video, pad=pad, tile=tile))

    def decode_indices(
        self,
        indices: Int[Tensor, "b f y x"],
        *,
        crop: Size | None = None,
        tile: int | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Clips of tokens; see :meth:`decode`. Raises ValueError for an index out of range."""
        return self.decode(self.codes(indices), crop=crop, tile=tile)

    def indices(self, codes: Float[Tensor, "b z f y x"]) -> Int[Tensor, "b f y x"]:
        """Tokens of what a discrete tokenizer encoded."""
        return codes_to_indices(rearrange(codes, "b z f y x -> b f y x z"), self._levels())

    def codes(self, indices: Int[Tensor, "b f y x"]) -> Float[Tensor, "b z f y x"]:
        """What a discrete tokenizer decodes, in the type of its weights."""
        levels = self._levels()
        check_indices(indices, self.config)
        codes = indices_to_codes(indices, levels).to(self.from_latents.weight.dtype)
        return rearrange(codes, "b f y x z -> b z f y x")

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The reconstruction. For training: shapes are checked, values are not looked at."""
        check_clip(video, self.config)
        return self.decode_chunk(self.encode_chunk(video))

    def stream_encoder(self, *, pad: Pad = None) -> StreamEncoder:
        """Encodes a clip chunk by chunk, to the same latents as :meth:`encode`."""
        return StreamEncoder(self.encode_chunk, self.config, pad)

    def stream_decoder(self, *, crop: Size | None = None) -> StreamDecoder:
        """Decodes latents chunk by chunk, to the same clip as :meth:`decode`."""
        return StreamDecoder(self.decode_chunk, self.config, crop)

    def encode_chunk(
        self, video: Float[Tensor, "b c t h w"], past: Past | None = None
    ) -> Float[Tensor, "b z f y x"]:
        """Unchecked `encode` of a whole clip, or of a stream's next whole groups of frames."""
        if past is None and infers(self, video):
            h, w = video.shape[3:]
            length = self.temporal.ratio * latents_per_step(self.config, len(video) * h * w)
            first = length - self.temporal.ratio + 1
            if video.shape[2] > first:
                chunks = video[:, :, :first], *video[:, :, first:].split(length, 2)
                frames = int(self.temporal.latent_frames(video.shape[2]))
                return in_steps(self.encode_chunk, chunks, frames)
        return rearrange(self.quantize(self.features(video, past)), "b f y x z -> b z f y x")

    def decode_chunk(
        self, latents: Float[Tensor, "b z f y x"], past: Past | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Unchecked `decode` of all latents, or of a stream's next ones."""
        infer = infers(self, latents)
        if infer and past is None:
            b, _, f, y, x = latents.shape
            length = latents_per_step(self.config, b * y * x * self.config.spatial_compression**2)
            if f > length:
                frames = int(self.temporal.frames(f))
                return in_steps(self.decode_chunk, latents.split(length, 2), frames)
        z = self.from_latents(rearrange(latents, "b z f y x -> b f y x z"))
        patch, image, start = self.config.patch_size, self.config.is_image, at_start(past)
        if infer:
            cells = self.decoder.infer(z, past).unflatten(-1, (self.config.in_channels, -1))
            return from_cells(cells, patch, image=image, start=start)
        return haar_inverse(self.decoder(z, past), patch, image=image, start=start)

    def features(
        self, video: Float[Tensor, "b c t h w"], past: Past | None = None
    ) -> Float[Tensor, "b f y x z"]:
        """What enters the bottleneck, before any rounding."""
        if infers(self, video):
            patch, image, start = self.config.patch_size, self.config.is_image, at_start(past)
            cells = to_cells(video, patch, image=image, start=start).flatten(4)
            return self.to_latents(self.encoder.infer(cells, past))
        return self.to_latents(self.encoder(self.bands(video, past), past))

    def bands(
        self, video: Float[Tensor, "b c t h w"], past: Past | None = None
    ) -> Float[Tensor, "b t h w d"]:
        """Wavelet bands of a clip."""
        image, start = self.config.is_image, at_start(past)
        return haar_forward(video, self.config.patch_size, image=image, start=start)

    def quantize(self, z: Float[Tensor, "b f y x z"]) -> Float[Tensor, "b f y x z"]:
        """The bottleneck: nothing, or the nearest codes."""
        return z if self.config.fsq_levels is None else fsq_codes(z, self.config.fsq_levels)

    def _levels(self) -> tuple[int, ...]:
        if self.config.fsq_levels is None:
            raise ValueError(
                "tokenizer.fsq_levels=None: a continuous tokenizer has no indices; "
                "use encode and decode"
            )
        return self.config.fsq_levels


def load_tokenizer(folder: Path | str, *, attention_window: int | None = None) -> VideoTokenizer:
    """An eval-mode tokenizer from a published folder; strict.

    ``attention_window`` replaces that of the folder: no weight depends on it. Raises ValueError
    naming the file, and each key, value or tensor that does not fit.
    """
    config, tensors = read_weights(folder, kind="tokenizer")
    net = read_net(config.get("net"), str(folder))
    if attention_window is not None:
        net = replace(net, attention_window=attention_window)
    tokenizer = VideoTokenizer(net)
    load_strict(tokenizer, tensors, str(folder))
    return tokenizer.eval()


def read_net(net: object, source: str) -> TokenizerConfig:
    """The config that ``asdict`` wrote; ValueError naming ``source`` when it is something else.

    Weights published before a field of `YOUNGER_FIELDS` existed do without it; every other field
    must be there.
    """
    if not isinstance(net, dict):
        raise ValueError(f"{source}: net={net!r}: must be the tokenizer's config")
    values = {**YOUNGER_FIELDS, **net}
    missing = [field.name for field in fields(TokenizerConfig) if field.name not in values]
    if missing:
        raise ValueError(f"{source}: net: {', '.join(missing)} missing")
    try:
        return TokenizerConfig(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: net: {error}") from error
