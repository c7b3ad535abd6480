"""VideoTokenizer: a causal wavelet autoencoder from clips to latents and back."""

from __future__ import annotations

from pathlib import Path

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.causal import FactorizedConv, FrameNorm, PointwiseConv
from openwfm.nn.wavelet import haar_forward, haar_inverse
from openwfm.shapes import Temporal
from openwfm.tokenizer.blocks import Downsample, Level, Middle, Upsample
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.weights import load_strict, read_weights


class Encoder(nn.Module):
    """Wavelet bands to ``z_channels``; the first levels halve space and time."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        groups, last = config.num_groups, len(config.widths) - 1
        width = config.channels
        self.conv_in = FactorizedConv(config.in_channels * config.patch_size**3, width)
        self.levels = nn.ModuleList()
        for i, level_width in enumerate(config.widths):
            space, time = i < config.num_spatial, i < config.num_temporal
            down = Downsample(level_width, space, time) if i < last and (space or time) else None
            self.levels.append(Level(width, level_width, config.num_res_blocks, groups, down))
            width = level_width
        self.middle = Middle(width, groups)
        self.norm_out = FrameNorm(width, groups)
        self.conv_out = FactorizedConv(width, config.z_channels)

    def forward(self, bands: Float[Tensor, "b t h w d"]) -> Float[Tensor, "b f y x z"]:
        x = self.conv_in(bands)
        for level in self.levels:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """``z_channels`` to wavelet bands; not the encoder's mirror image.

    With r = 0 at the deepest level, time doubles after the blocks of levels 1 ≤ r ≤ num_temporal,
    and space with it; when space is compressed more than time, it doubles from r = 0 on.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        groups, last = config.num_groups, len(config.widths) - 1
        width = config.widths[-1]
        self.conv_in = FactorizedConv(config.z_channels, width)
        self.middle = Middle(width, groups)
        levels = []
        for i in range(last, -1, -1):
            depth, level_width = last - i, config.widths[i]
            time = 0 < depth <= config.num_temporal
            space = time or (depth < config.num_spatial > config.num_temporal)
            up = Upsample(level_width, space, time) if i > 0 and space else None
            levels.append(Level(width, level_width, config.num_res_blocks + 1, groups, up))
            width = level_width
        self.levels = nn.ModuleList(reversed(levels))
        self.norm_out = FrameNorm(width, groups)
        self.conv_out = FactorizedConv(width, config.in_channels * config.patch_size**3)

    def forward(self, z: Float[Tensor, "b f y x z"]) -> Float[Tensor, "b t h w d"]:
        x = self.middle(self.conv_in(z))
        for level in reversed(self.levels):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VideoTokenizer(nn.Module):
    """Continuous tokenizer (arXiv 2501.03575, section 4.1): an autoencoder without sampling.

    Causal in time: a latent frame depends on its own and earlier pixel frames only, and frame 0 is
    a latent frame by itself, so a single image is a clip of one frame.
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

    def encode(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b z f y x"]:
        """Latents of clips in [-1, 1]; not normalised.

        Raises ValueError when t is not 1 + temporal_compression·n, or h or w is no multiple of
        spatial_compression, naming the nearest sizes that are.
        """
        self._check_video(video)
        bands = haar_forward(video, self.config.patch_size)
        latents = self.to_latents(self.encoder(bands))
        return rearrange(latents, "b f y x z -> b z f y x")

    def decode(self, latents: Float[Tensor, "b z f y x"]) -> Float[Tensor, "b c t h w"]:
        """Clips of 1 + temporal_compression·(f - 1) frames; about [-1, 1], not clamped."""
        channels = self.config.latent_channels
        if latents.ndim != 5 or latents.shape[1] != channels or not latents.is_floating_point():
            raise ValueError(
                f"latents: {latents.dtype} of shape {tuple(latents.shape)}: "
                f"must be floating point b {channels} f y x"
            )
        z = self.from_latents(rearrange(latents, "b z f y x -> b f y x z"))
        return haar_inverse(self.decoder(z), self.config.patch_size)

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The reconstruction."""
        return self.decode(self.encode(video))

    def _check_video(self, video: Tensor) -> None:
        channels = self.config.in_channels
        if video.ndim != 5 or video.shape[1] != channels or not video.is_floating_point():
            raise ValueError(
                f"video: {video.dtype} of shape {tuple(video.shape)}: "
                f"must be floating point b {channels} t h w in [-1, 1]"
            )
        self.temporal.latent_frames(video.shape[2])
        multiple = self.config.spatial_compression
        for name, size in (("height", video.shape[3]), ("width", video.shape[4])):
            if size % multiple or size == 0:
                lower = max(multiple, size // multiple * multiple)
                raise ValueError(
                    f"{name}={size}: must be a multiple of {multiple} "
                    f"(nearest: {lower} or {lower + multiple})"
                )


def load_tokenizer(folder: Path | str) -> VideoTokenizer:
    """An eval-mode tokenizer from a published folder; strict.

    Raises ValueError naming the file, and each key, value or tensor that does not fit.
    """
    config, tensors = read_weights(folder, kind="tokenizer")
    tokenizer = VideoTokenizer(read_net(config.get("net"), str(folder)))
    load_strict(tokenizer, tensors, str(folder))
    return tokenizer.eval()


def read_net(net: object, source: str) -> TokenizerConfig:
    """The config that ``asdict`` wrote; ValueError naming ``source`` when it is something else."""
    if not isinstance(net, dict):
        raise ValueError(f"{source}: net={net!r}: must be the tokenizer's config")
    try:
        return TokenizerConfig(**net)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: net: {error}") from error
