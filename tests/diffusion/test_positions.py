from __future__ import annotations

import math

import pytest
import torch

from openwfm.diffusion.positions import PositionTables, PositionWaves


def test_waves_have_the_released_widths_and_values() -> None:
    assert PositionWaves(4096).dims == (1368, 1364, 1364)
    table = PositionWaves(26)((3, 2, 4)).view(3, 2, 4, 26)  # 10 of time, 8 of rows, 8 of columns
    for t, h, w in ((2, 1, 3), (1, 0, 2)):
        expected = []
        for position, dim in ((t, 10), (h, 8), (w, 8)):
            angles = [position * 10000 ** (-2 * i / dim) for i in range(dim // 2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert torch.allclose(table[t, h, w], torch.tensor(expected), atol=1e-6)


def test_waves_follow_the_module_and_store_nothing() -> None:
    waves = PositionWaves(26).to(torch.float64)
    assert waves((1, 1, 2)).dtype == torch.float64 and not waves.state_dict()


@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 4, 5)])
def test_tables_have_unit_rms(grid: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    tables = PositionTables((4, 5, 6), 32)
    for parameter in tables.parameters():
        torch.nn.init.normal_(parameter)
    rms = tables(grid).square().mean(-1).sqrt()
    assert torch.allclose(rms, torch.ones_like(rms), atol=1e-4)
