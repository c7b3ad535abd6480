"""Streams give what whole clips give, for any chunks, and remember a known number of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from openwfm.nn.causal import Past
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset
from openwfm.tokenizer.blocks import frame_mask

SMALL = TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=1)
DISCRETE = {"latent_channels": 2, "fsq_levels": (8, 5)}
CONFIGS = {
    "8x8x8": SMALL,
    "8x8x8, window 3": replace(SMALL, attention_window=3),
    "8x8x8, window 1": replace(SMALL, attention_window=1),
    "8x16x16": replace(SMALL, spatial_compression=16),
    "4x8x8": replace(SMALL, temporal_compression=4),
    "4x8x8, patch 2": replace(SMALL, patch_size=2, temporal_compression=4),
    "8x8x8, patch 2": replace(SMALL, patch_size=2, channels_mult=(1, 1, 2, 2)),
    "4x4x4": replace(SMALL, spatial_compression=4, temporal_compression=4),
    "8x8x8, discrete": replace(SMALL, **DISCRETE),
    "image": replace(SMALL, temporal_compression=1, num_groups=4),
}
TOKENIZERS: dict[str, VideoTokenizer] = {}


def awake(name: str) -> VideoTokenizer:
    """A tokenizer none of whose weights is zero, so that every path is seen."""
    if name not in TOKENIZERS:
        torch.manual_seed(0)
        tokenizer = VideoTokenizer(CONFIGS[name]).eval()
        for parameter in tokenizer.parameters():
            if parameter.ndim == 5:
                nn.init.kaiming_uniform_(parameter, a=1.0)
        TOKENIZERS[name] = tokenizer.requires_grad_(False)
    return TOKENIZERS[name]


def clip(tokenizer: VideoTokenizer, num_latents: int) -> Tensor:
    config, generator = tokenizer.config, torch.Generator().manual_seed(1)
    side = config.spatial_compression
    frames = int(config.temporal.frames(num_latents))
    return torch.rand(2, 3, frames, side, 2 * side, generator=generator) * 2 - 1


def split(x: Tensor, cuts: Sequence[int]) -> list[Tensor]:
    """Pieces along time between sorted ``cuts``; some may be empty."""
    edges = [0, *sorted(min(cut, x.shape[2]) for cut in cuts), x.shape[2]]
    return [x[:, :, a:b] for a, b in zip(edges, edges[1:], strict=False)]


def error(ours: Tensor, wanted: Tensor) -> float:
    assert ours.shape == wanted.shape
    return float((ours - wanted).abs().max() / wanted.abs().max())


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(CONFIGS)),
    num_latents=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 33), max_size=6),
    latent_cuts=st.lists(st.integers(1, 5), max_size=3, unique=True),
)
def test_any_chunks_give_the_whole_clip(
    name: str, num_latents: int, cuts: list[int], latent_cuts: list[int]
) -> None:
    tokenizer = awake(name)
    video = clip(tokenizer, num_latents)
    wanted = tokenizer.features(video) if "discrete" in name else tokenizer.encode(video)
    # Rounding hides what a stream gets wrong, so a discrete one is compared before it.
    encoder = tokenizer.stream_encoder()
    if "discrete" in name:
        encoder._step = lambda x, past: tokenizer.features(x, past).permute(0, 4, 1, 2, 3)
        wanted = wanted.permute(0, 4, 1, 2, 3)
    parts = [encoder.push(chunk) for chunk in split(video, cuts)]
    assert encoder.finish().shape[2] == 0
    assert encoder.num_pushed == video.shape[2]
    assert error(torch.cat(parts, 2), wanted) < 1e-5

    latents = tokenizer.encode(video)
    decoder = tokenizer.stream_decoder()
    pieces = [piece for piece in split(latents, latent_cuts) if piece.shape[2]]
    frames = torch.cat([decoder.push(piece) for piece in pieces], 2)
    decoder.finish()
    assert error(frames, tokenizer.decode(latents)) < 1e-5


@pytest.mark.parametrize("window", [1, 2, 4])
def test_a_window_is_a_window(window: int) -> None:
    """Attention over W frames equals full attention over the last W frames, query by query."""
    mask = frame_mask(3, 7, window, torch.device("cpu"))
    wanted = [[4 + i - window < j <= 4 + i for j in range(7)] for i in range(3)]
    assert mask.tolist() == wanted
    torch.manual_seed(0)
    name = "8x8x8"
    attention = awake(name).encoder.middle.attention_time
    assert attention is not None
    x = torch.randn(1, 6, 2, 2, 16)
    attention.window = window
    ours = attention(x)
    attention.window = None
    for t in range(6):
        alone = attention(x[:, max(0, t + 1 - window) : t + 1])[:, -1]
        torch.testing.assert_close(ours[:, t], alone, rtol=1e-5, atol=1e-5)


def test_a_window_as_long_as_the_clip_changes_nothing() -> None:
    whole, video = awake("8x8x8"), clip(awake("8x8x8"), 3)
    windowed = VideoTokenizer(replace(SMALL, attention_window=3)).eval()
    windowed.load_state_dict(whole.state_dict())
    assert torch.equal(windowed.encode(video), whole.encode(video))
    longer = clip(whole, 4)
    assert not torch.equal(windowed.encode(longer)[:, :, 3], whole.encode(longer)[:, :, 3])


def test_streams_do_not_look_ahead() -> None:
    """What came out does not change, bit for bit, whatever follows."""
    tokenizer = awake("8x8x8, window 3")
    video = clip(tokenizer, 3)
    other = torch.cat((video[:, :, :12], -video[:, :, 12:]), 2)
    outputs = []
    for each in (video, other):
        encoder = tokenizer.stream_encoder()
        outputs.append([encoder.push(each[:, :, i : i + 1]) for i in range(25)])
    first, second = (torch.cat(parts, 2) for parts in outputs)
    assert torch.equal(first[:, :, :2], second[:, :, :2])
    assert not torch.equal(first[:, :, 2], second[:, :, 2])


def test_state_with_a_window_is_of_fixed_size() -> None:
    tokenizer = awake("8x8x8, window 3")
    encoder, decoder = tokenizer.stream_encoder(), tokenizer.stream_decoder()
    chunk = clip(tokenizer, 2)[:, :, 1:]
    latents = [encoder.push(chunk[:, :, :1])]
    decoder.push(latents[0])
    sizes = []
    for _ in range(12):
        latents.append(encoder.push(chunk))
        decoder.push(latents[-1])
        sizes.append((encoder.num_state_elements, decoder.num_state_elements))
    assert len(set(sizes[2:])) == 1, sizes
    # Nothing but attention's memory grows, and it only until the window is full.
    growth = [later - earlier for (earlier, _), (later, _) in zip(sizes, sizes[1:], strict=False)]
    assert growth == [0] * 11 or growth[0] > 0
    unbounded = awake("8x8x8").stream_encoder()
    unbounded.push(chunk[:, :, :1])
    more = []
    for _ in range(4):
        unbounded.push(chunk)
        more.append(unbounded.num_state_elements)
    per_frame = 2 * 2 * 1 * 2 * 16  # keys and values, batch, rows, columns, channels
    assert {b - a for a, b in zip(more, more[1:], strict=False)} == {per_frame}


@pytest.mark.parametrize(
    "name, encoder, decoder, keys",
    [
        ("cv8x8x8", 1_394_688, 2_064_384, 65_536),
        ("dv8x16x16", 999_936, 1_523_712, 16_384),
        ("cv4x8x8_360p", 3_999_744, 5_750_784, 65_536),
    ],
)
def test_state_at_published_width(name: str, encoder: int, decoder: int, keys: int) -> None:
    """Per 64x64 pixels, and for each latent frame beside that (reference: 5.6)."""
    config = preset(name)
    with torch.device("meta"):
        tokenizer = VideoTokenizer(config).requires_grad_(False)
        past, later = Past(), Past()
        latents = tokenizer.encode_chunk(torch.empty(1, 3, 1, 64, 64), past)
        tokenizer.decode_chunk(latents, later)
    assert past.num_elements == encoder + keys
    assert later.num_elements == decoder + keys


def test_a_stream_that_ends_early_says_what_is_missing() -> None:
    tokenizer = awake("8x8x8")
    video = clip(tokenizer, 3)
    encoder = tokenizer.stream_encoder()
    encoder.push(video[:, :, :14])
    with pytest.raises(
        ValueError, match=r"after 14 frames.* 3 frames are missing to 17 = 1 \+ 8·n"
    ):
        encoder.finish()
    encoder.push(video[:, :, 14:17])
    encoder.finish()
    for again in (lambda: encoder.push(video), lambda: encoder.finish()):
        with pytest.raises(ValueError, match="finished"):
            again()


def test_padded_streams_equal_padded_clips() -> None:
    tokenizer = awake("8x8x8")
    with pytest.raises(ValueError, match="pad=reflect: must be replicate"):
        tokenizer.stream_encoder(pad="reflect")  # type: ignore[arg-type]
    video = clip(tokenizer, 3)[:, :, :14, :7, :15]
    encoder = tokenizer.stream_encoder(pad="replicate")
    parts = [encoder.push(video[:, :, i : i + 5]) for i in (0, 5, 10)]
    parts.append(encoder.finish())
    wanted = tokenizer.encode(video, pad="replicate")
    assert error(torch.cat(parts, 2), wanted) < 1e-5

    decoder = tokenizer.stream_decoder(crop=(14, 7, 15))
    frames = torch.cat([decoder.push(wanted[:, :, i : i + 1]) for i in range(3)], 2)
    decoder.finish()
    assert error(frames, tokenizer.decode(wanted, crop=(14, 7, 15))) < 1e-5
    assert frames.shape == (2, 3, 14, 7, 15)


def test_wrong_chunks_are_refused() -> None:
    tokenizer = awake("8x8x8")
    for stream in (tokenizer.stream_encoder(), tokenizer.stream_decoder()):
        with pytest.raises(ValueError, match="before its first frame"):
            stream.finish()
    encoder = tokenizer.stream_encoder()
    encoder.push(torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(ValueError, match=r"height and width .*16, 24.*before .*16, 16"):
        encoder.push(torch.zeros(1, 3, 3, 16, 24))
    with pytest.raises(ValueError, match="type torch.float64, before torch.float32"):
        encoder.push(torch.zeros(1, 3, 3, 16, 16, dtype=torch.float64))
    with pytest.raises(ValueError, match="height=15: must be a multiple of 8"):
        encoder.push(torch.zeros(1, 3, 3, 15, 16))
    with pytest.raises(ValueError, match="NaN or infinite"):
        encoder.push(torch.full((1, 3, 3, 16, 16), float("nan")))
    encoder.push(torch.zeros(1, 3, 6, 16, 16))
    assert encoder.num_pushed == 9
    decoder = tokenizer.stream_decoder(crop=(9, 20, 16))
    with pytest.raises(ValueError, match="crop: height=20: must be from 9 to 16"):
        decoder.push(torch.zeros(1, 16, 2, 2, 2))
    short = tokenizer.stream_decoder(crop=(30, 16, 16))
    short.push(torch.zeros(1, 16, 2, 2, 2))
    with pytest.raises(ValueError, match="crop: frames=30: must be from 2 to 9"):
        short.finish()
