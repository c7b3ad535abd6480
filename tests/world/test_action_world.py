"""A tiny action world: sessions, roll-outs, and what is published of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.diffusion.config import EdmConfig, SamplerConfig
from openwfm.diffusion.frames import decode_frames, encode_frames
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.evaluation.rollouts import BASE, COPY, METRICS, WORLD, WRONG, evaluate_rollouts
from openwfm.shapes import Temporal
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights
from openwfm.world import World, WorldFacts
from openwfm.world.action import ActionWorld
from tests.posttraining.test_action import ACTION, GIVEN, NET, teach

CONDITION = replace(GIVEN, min_frames=2, max_frames=2)
TOKENIZER = TokenizerConfig(
    channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4, latent_channels=4
)


def tokenizer() -> VideoTokenizer:
    torch.manual_seed(1)
    return VideoTokenizer(TOKENIZER).eval().requires_grad_(False)


def world(trained: bool = True) -> ActionWorld:
    torch.manual_seed(0)
    model = DiffusionWorldModel(
        net=NET,
        objective=EdmConfig(),
        conditioner=CONDITION,
        sampler=SamplerConfig(num_steps=2, guidance=0.0),
        control=ACTION.build(32),
    ).eval()
    model.set_latent_statistics(torch.zeros(4, 1), torch.ones(4, 1))
    if trained:
        teach(model)
    facts = WorldFacts(
        temporal=Temporal(ratio=8), max_condition=2, needs_frames=True, weights_sha256={},
        size=(32, 32), num_frames=3, fps=5.0,
    )  # fmt: skip
    return ActionWorld.of(model.requires_grad_(False), tokenizer(), facts, Path("here"))


def publish_action(folder: Path) -> Path:
    """The weights of `world`."""
    here = world()
    config = {**here.model.export_config(), "frame_by_frame": True, "data": {"size": [32, 32]}}
    save_weights(folder, plain(config), here.model.state_dict())
    coder = plain({"kind": "tokenizer", "net": asdict(TOKENIZER)})
    save_weights(folder / "tokenizer", coder, here.tokenizer.state_dict())
    return folder


def clip(count: int, seed: int = 0, batch: int = 2) -> Tensor:
    return (
        torch.rand(batch, 3, count, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    )


def test_frames_are_coded_one_by_one() -> None:
    video, coder = clip(3), tokenizer()
    together = encode_frames(coder, video)
    assert together.shape == (2, 4, 3, 4, 4)
    alone = encode_frames(coder, video[:, :, 1:2])
    assert torch.allclose(together[:, :, 1:2], alone, atol=1e-5)
    assert decode_frames(coder, together).shape == video.shape


def test_a_session_steps_forks_and_does_not_know_its_batch() -> None:
    here = world()
    session = here.session(clip(2), seeds=[5, 6])
    alone = here.session(clip(2)[1:], seeds=[6])
    moves = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(2))
    fork = session.fork(2)
    for move in moves:
        frames = session.step(move)
        assert frames.shape == (2, 3, 32, 32) and float(frames.abs().max()) <= 1
        assert torch.allclose(alone.step(move[1]), frames[1:], atol=1e-4)
        assert torch.allclose(fork.step(move.repeat_interleave(2, 0))[::2], frames, atol=1e-4)


def test_actions_matter_and_the_start_may_be_short() -> None:
    here = world()
    one, other = (here.session(clip(1), seeds=[1, 2]) for _ in range(2))
    assert torch.equal(one.frames, clip(1)[:, :, 0])
    a, b = one.step(torch.zeros(2)), other.step(torch.ones(2))
    assert float((a - b).abs().max()) > 1e-4


def test_it_is_loaded_as_what_it_is(tmp_path: Path) -> None:
    here = world()
    again = World.load(publish_action(tmp_path))
    assert isinstance(again, ActionWorld)
    actions = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(2))
    first, second = (w.rollout(clip(2), actions, seed=4) for w in (here, again))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="one for every frame"):
        again.generate(frames=clip(2)[0], num_frames=5, fps=5.0)


def test_the_gauge_of_obedience_shows_a_gap_where_there_is_one() -> None:
    """The truth is what the world itself makes of the right actions."""
    here = world()
    batches = []
    for seed in range(3):
        actions = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(seed))
        begin = clip(2, seed, batch=4)
        future = here.rollout(begin, actions[:, 1:], seed=seed)
        video = torch.cat((begin, future), 2)
        keys = tuple(f"{seed}-{i}" for i in range(4))
        batches.append(VideoBatch(key=keys, fps=torch.full((4,), 5.0), video=video, action=actions))
    report = evaluate_rollouts(here, batches, given=2, seed=0)
    assert report.num_clips == 12 and report.steps == 4
    assert report.obeys
    assert report.rows[WORLD]["psnr"].mean > 60
    deaf = world(trained=False)
    ignored = evaluate_rollouts(deaf, batches, given=2, seed=0)
    assert not ignored.obeys
    assert all(abs(ignored.gaps[name]["psnr"].mean) < 1e-4 for name in WRONG)
    for metric in METRICS:
        assert np.isfinite(report.by_step[metric][COPY]).all()
    assert report.rows[WORLD]["latent_l2"].mean < report.rows[COPY]["latent_l2"].mean
    assert report.rows[WORLD]["features"].mean < report.rows[COPY]["features"].mean

    def size(number: int, made: Tensor) -> dict[str, Tensor]:
        return {"brightness": made.mean((1, 3, 4)) + number}

    beside = evaluate_rollouts(here, batches[:1], base=deaf, extra=size)
    assert beside.gaps[BASE]["moving_psnr"].low > 0
    wanted = float(batches[0].video[:, :, -1:].mean())  # type: ignore[index]
    found = beside.by_step["brightness"][WORLD]
    assert len(found) == 4 and found[-1] == pytest.approx(wanted, abs=1e-3)
    with pytest.raises(ValueError, match="needs video and action"):
        evaluate_rollouts(here, [replace(batches[0], action=None)])
    with pytest.raises(ValueError, match="no clips"):
        evaluate_rollouts(here, [])
