"""The gauge of obedience: nothing before training and without a way in, a gap where one listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from openwfm.callbacks import Obedience
from openwfm.callbacks.obedience import another, gauge, wrong_batches
from openwfm.data.batch import VideoBatch
from openwfm.diffusion.config import ConditionerConfig
from openwfm.diffusion.module import DiffusionModule
from openwfm.posttraining.action import ActionConfig
from tests.diffusion.test_module import NET, build, tokenizer  # noqa: F401

ACTION = ActionConfig(
    names=("dx", "dy"), units=("m", "m"), mean=(0.0, 0.0), std=(1.0, 1.0), low=(-1.0, -1.0),
    high=(1.0, 1.0), rate=5.0, dropout=0.0,
)  # fmt: skip
GIVEN = ConditionerConfig(
    text_encoder="none", text_width=12, text_tokens=1, text_dropout=0.0, min_frames=1, max_frames=1
)


def clips(count: int = 8) -> VideoBatch:
    """The second frame is bright where dx says so; dy says nothing."""
    generator = torch.Generator().manual_seed(0)
    action = torch.randn(count, 2, 2, generator=generator).sign()
    latents = 0.1 * torch.randn(count, 16, 2, 4, 4, generator=generator)
    latents[:, :, 1] += action[:, -1, 0].view(-1, 1, 1, 1)
    key = tuple(map(str, range(count)))
    return VideoBatch(key=key, fps=torch.full((count,), 5.0), latents=latents, action=action)


def module(folder: str) -> DiffusionModule:
    made = build(
        folder, net=NET, conditioner=GIVEN, control=ACTION,
        optimizer=partial(torch.optim.AdamW, lr=3e-3),
    )  # fmt: skip
    made.set_latent_statistics(torch.zeros(16, 1), torch.ones(16, 1))
    return made


class Log(L.pytorch.loggers.logger.DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        kept = {name: v for name, v in metrics.items() if name.startswith("obedience/")}
        if kept:
            assert step is not None
            self.found[step] = kept


def train(made: DiffusionModule, steps: int, **options: Any) -> dict[int, dict[str, float]]:
    log = Log()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=steps, logger=log, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Obedience(num_clips=8, **options)],
    )  # fmt: skip
    trainer.fit(made, DataLoader([clips()] * steps, batch_size=None))
    return log.found


def test_the_gap_is_zero_before_training_and_grows_where_the_action_says_something(
    tokenizer: str,  # noqa: F811
) -> None:
    found = train(module(tokenizer), 121, every_n_steps=60)
    assert sorted(found) == [0, 60, 120]
    gaps = {name: value for name, value in found[0].items() if name != "obedience/loss"}
    names = ("zeroed", "action_shuffled", "action_late", "action_dx", "action_dy")
    assert set(gaps) == {f"obedience/{name}" for name in names}
    assert set(gaps.values()) == {0.0}
    last = found[120]
    assert last["obedience/loss"] < found[0]["obedience/loss"]
    for name in ("zeroed", "action_shuffled", "action_late", "action_dx"):
        assert last[f"obedience/{name}"] > 0.2, (name, last)
    assert abs(last["obedience/action_dy"]) < 0.2 * last["obedience/action_dx"]


def test_a_model_that_cannot_hear_has_no_gap(tokenizer: str) -> None:  # noqa: F811
    made = module(tokenizer)
    made.configure_model()
    assert made.model is not None and made.model.control is not None
    made.model.control.requires_grad_(False)
    found = train(made, 21, every_n_steps=20)
    assert found[20]["obedience/loss"] != found[0]["obedience/loss"]
    gaps = [value for name, value in found[20].items() if name != "obedience/loss"]
    assert len(gaps) == 5 and set(gaps) == {0.0}


def test_looking_changes_nothing_about_the_training(tokenizer: str) -> None:  # noqa: F811
    weights = []
    for every in (1, 100):
        made = module(tokenizer)
        train(made, 4, every_n_steps=every)
        assert made.training
        weights.append(made.world_model.net.patch_in.weight.detach().clone())
    assert torch.equal(*weights)


def poses(count: int = 4) -> Tensor:
    made = torch.eye(4).repeat(count, 9, 1, 1)
    made[:, :, :3] += torch.rand(count, 9, 3, 4, generator=torch.Generator().manual_seed(1))
    return made


def test_one_thing_is_wrong_at_a_time_for_every_control() -> None:
    batch = replace(
        clips(4), camera_to_world=poses(), trajectory=torch.rand(4, 64, 3), text=torch.rand(4, 2, 3)
    )
    found = wrong_batches(batch, ("dx", "dy"))
    assert list(found) == [
        "action_shuffled", "action_late", "action_dx", "action_dy",
        "trajectory_shuffled", "trajectory_late", "trajectory_0", "trajectory_1", "trajectory_2",
        "camera_shuffled", "camera_late", "camera_place", "camera_direction", "text_shuffled",
    ]  # fmt: skip
    place = found["camera_place"].camera_to_world
    assert place is not None and batch.camera_to_world is not None
    other = another(batch.camera_to_world)
    assert torch.equal(place[..., :3, 3], other[..., :3, 3])
    assert torch.equal(place[..., :3, :3], batch.camera_to_world[..., :3, :3])
    late = found["trajectory_late"].trajectory
    assert late is not None and batch.trajectory is not None
    assert torch.equal(late[:, 16:], batch.trajectory[:, :48])
    assert torch.equal(late[:, :16], batch.trajectory[:, :1].expand(-1, 16, -1))
    for name, wrong in found.items():
        field = {"camera": "camera_to_world"}.get(name.split("_")[0], name.split("_")[0])
        changed = [
            f for f in ("action", "trajectory", "camera_to_world", "text")
            if not torch.equal(getattr(wrong, f), getattr(batch, f))
        ]  # fmt: skip
        assert changed == [field], name


def test_bad_values_are_named(tokenizer: str) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="every_n_steps=0"):
        Obedience(every_n_steps=0)
    with pytest.raises(ValueError, match="num_clips=1"):
        Obedience(num_clips=1)
    with pytest.raises(ValueError, match="has no fixed_loss"):
        Obedience().setup(L.Trainer(logger=False), L.LightningModule(), "fit")
    with pytest.raises(ValueError, match="no action, camera, trajectory or text"):
        gauge(module(tokenizer), replace(clips(), action=None))
    with pytest.raises(ValueError, match="1 clips: must be at least 2"):
        gauge(module(tokenizer), clips(1))
