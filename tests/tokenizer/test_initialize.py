"""A new network starts as a short linear chain of modest amplitude."""

from __future__ import annotations

import torch

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset
from openwfm.tokenizer.initialize import initialize

DEEP = TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=4)


def new(config: TokenizerConfig) -> VideoTokenizer:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config)
    initialize(tokenizer)
    return tokenizer


def test_first_output_is_not_brighter_than_a_clip() -> None:
    video = torch.rand(2, 3, 9, 32, 32) * 2 - 1
    for config in (preset("cv8x8x8_nano"), DEEP):
        output = new(config)(video)
        assert 0.001 < output.std() < 0.6


def test_residual_paths_start_closed() -> None:
    x = torch.randn(1, 3, 4, 4, 16)
    middle = new(DEEP).encoder.middle
    assert torch.equal(middle(x), x)


def test_every_weight_receives_a_gradient_after_one_step() -> None:
    """A path that starts at zero must not stay shut: its last layer moves in the first step."""
    tokenizer = new(TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=1))
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=1e-2)
    video = torch.rand(2, 3, 9, 16, 16) * 2 - 1
    for _ in range(3):
        optimizer.zero_grad()
        (tokenizer(video) - video).abs().mean().backward()
        optimizer.step()
    still = [n for n, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
