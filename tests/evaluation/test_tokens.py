"""Shares of right tokens, against a model whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from openwfm.autoregressive import TransformerConfig
from openwfm.autoregressive.model import AutoregressiveWorldModel, TextConfig
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.data.batch import VideoBatch
from openwfm.evaluation.tokens import COPY, FORCED, FREE, STALE, evaluate_tokens

NET = TransformerConfig(
    width=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, hidden=32,
    vocabulary=6, grid=(4, 2, 3),
)  # fmt: skip


class Tokens(nn.Module):
    """Reads a clip's tokens off its pixels."""

    def encode_indices(self, video):
        return video[:, 0, :, :2, :3].int()


def clips(count: int, frames: int = 4) -> VideoBatch:
    generator = torch.Generator().manual_seed(count)
    video = torch.randint(6, (count, 1, frames, 2, 3), generator=generator).float()
    return VideoBatch(key=tuple(map(str, range(count))), fps=torch.ones(count), video=video)


def model(bov: bool = False) -> AutoregressiveWorldModel:
    torch.manual_seed(0)
    net = TransformerConfig(**{**NET.__dict__, "bov": bov})
    return AutoregressiveWorldModel(
        net=net,
        objective=NextTokenConfig(),
        sampler=SamplerConfig(),
        text=TextConfig(),
        tokenizer_sha256="",
    ).eval()


@pytest.mark.parametrize("bov", [False, True])
@pytest.mark.parametrize("given", [1, 2, 3])
def test_shares_are_those_counted_by_hand(bov, given):
    world, batch = model(bov), clips(5)
    report = evaluate_tokens(world, Tokens(), [batch], given=given)
    truth = Tokens().encode_indices(batch.video).long()
    for clip in range(5):
        sequence = world.sequence(truth[clip : clip + 1])
        start = int(bov) + given * 6
        forced, free = [], sequence[:, :start]
        for place in range(start, sequence.shape[1]):
            forced.append(int(world.net(sequence[:, :place])[0, -1].argmax()))
            guess = world.net(free)[0, -1].argmax().view(1, 1)
            free = torch.cat((free, guess), 1)
        wanted = sequence[0, start:]
        expected = {
            FORCED: torch.tensor(forced) == wanted,
            FREE: free[0, start:] == wanted,
            COPY: sequence[0, start - 6 : -6] == wanted,
            STALE: sequence[0, start - 6 : start].repeat(4 - given) == wanted,
        }
        for row, right in expected.items():
            values = report.scores.values[row]
            assert values["all"][clip] == pytest.approx(float(right.float().mean()))
            for frame in range(given, 4):
                part = right[(frame - given) * 6 :][:6].float().mean()
                assert values[f"frame {frame}"][clip] == pytest.approx(float(part))
    assert report.num_clips == 5
    assert report.entropy.shape == (2, 3)
    assert 0 < float(report.entropy.max()) <= math.log(6) + 1e-4


def test_copying_is_right_where_nothing_moves_and_batches_do_not_matter():
    still = clips(6)
    still = VideoBatch(
        key=still.key, fps=still.fps, video=still.video[:, :, :1].repeat(1, 1, 4, 1, 1)
    )
    report = evaluate_tokens(model(), Tokens(), [still])
    assert report.rows[COPY]["all"].mean == 1
    assert report.rows[STALE]["all"].mean == 1
    assert not report.beats_copy
    whole = clips(6)
    parts = [
        VideoBatch(key=whole.key[i : i + 2], fps=whole.fps[:2], video=whole.video[i : i + 2])
        for i in (0, 2, 4)
    ]
    one, three = (evaluate_tokens(model(), Tokens(), part) for part in ([whole], parts))
    assert one.rows == three.rows
    assert one.to_json()["differences"] == three.to_json()["differences"]
    assert one.cross_entropy.mean == pytest.approx(three.cross_entropy.mean, rel=1e-4)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="there are no clips"):
        evaluate_tokens(model(), Tokens(), [])
    for given in (0, 4):
        with pytest.raises(ValueError, match=f"given={given}: must be in 1..3"):
            evaluate_tokens(model(), Tokens(), [clips(1)], given=given)
