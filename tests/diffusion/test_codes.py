from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openwfm.diffusion import DiT, DiTConfig
from openwfm.diffusion.codes import CodeChannels

NET = DiTConfig(
    in_channels=4,
    out_channels=4,
    condition_mask=False,
    width=32,
    num_blocks=1,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    max_size=(8, 16, 16),
    position_embedding="none",
    codebook=50,
    code_channels=3,
)


def filled(config: DiTConfig = NET) -> DiT:
    torch.manual_seed(0)
    net = DiT(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def test_frames_are_resized_each_on_its_own_as_half_pixel_bilinear_does() -> None:
    module = CodeChannels(50, 3)
    codes = torch.randint(0, 50, (2, 3, 2, 4))
    found = module(codes, (3, 4, 8))
    table = module.embedding(codes)  # b f r c k
    # twice the size: each value lies a quarter of the way to its neighbour, edges repeat
    rows = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]], dtype=torch.float32)
    columns = torch.zeros(8, 4)
    for i in range(8):
        at = min(max(i / 2 - 0.25, 0), 3)
        low = min(int(at), 2)
        columns[i, low], columns[i, low + 1] = 1 - (at - low), at - low
    expected = torch.einsum("yr,xc,bfrck->bkfyx", rows, columns, table)
    assert torch.allclose(found, expected, atol=1e-6)


def test_codes_start_without_effect_and_then_matter_frame_by_frame() -> None:
    latents, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 2, 12)
    level, codes = torch.zeros(1), torch.randint(1, 50, (1, 3, 2, 2))
    changed = codes.clone()
    changed[:, 1] = 0
    fresh, net = DiT(NET), filled()
    with torch.no_grad():
        start = [fresh(latents, level, text=text, fps=24.0, codes=c) for c in (codes, changed)]
        assert torch.equal(*start)
        ended = [net(latents, level, text=text, fps=24.0, codes=c) for c in (codes, changed)]
        assert not torch.allclose(*ended)
        inputs = [net._inputs(latents, None, None, c, None, None) for c in (codes, changed)]
    differs = (inputs[0] != inputs[1]).flatten(3).any(-1)[0]  # channels, frames
    assert differs[4:7, 1].all() and not differs[:4].any() and not differs[7:].any()
    assert not differs[:, [0, 2]].any()


@pytest.mark.parametrize(
    "codes, message",
    [
        (None, "codes: this network needs them"),
        (torch.zeros(1, 2, 2, 2).long(), "3 latent frames"),
        (torch.zeros(1, 3, 2, 2), "whole numbers"),
        (torch.full((1, 3, 2, 2), 50), "50 to 50: must be in"),
        (torch.full((1, 3, 2, 2), -1), "-1 to -1: must be in"),
    ],
)
def test_bad_codes(codes: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        filled()(
            torch.zeros(1, 4, 3, 4, 4),
            torch.zeros(1),
            text=torch.zeros(1, 2, 12),
            fps=24.0,
            codes=codes,
        )


def test_codes_lie_before_the_padding_mask() -> None:
    net = filled(replace(NET, extra_channels=2))
    inputs = net._inputs(
        torch.zeros(1, 4, 3, 4, 4),
        None,
        torch.full((1, 2, 3, 4, 4), 7.0),
        torch.zeros(1, 3, 2, 2).long(),
        torch.ones(1, 1, 4, 4),
        None,
    )
    assert inputs.shape[1] == 10 and (inputs[:, 4:6] == 7).all() and (inputs[:, 9] == 1).all()
