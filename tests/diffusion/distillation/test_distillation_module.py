"""The distilling module, trained for real: a very small teacher, cached latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from openwfm.config import build, compose
from openwfm.data.batch import VideoBatch
from openwfm.diffusion import DiffusionWorldModel, DiTConfig, load_world_model
from openwfm.diffusion.config import ConditionerConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.distillation import ConsistencyConfig
from openwfm.diffusion.distillation.module import DistillationModule
from openwfm.diffusion.precondition import denoise
from openwfm.files import read_json, write_json
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights

NET = DiTConfig(
    in_channels=4,
    out_channels=4,
    extra_channels=4,
    width=32,
    num_blocks=2,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    padding_mask=False,
    max_size=(8, 16, 16),
)
CONDITIONER = ConditionerConfig(
    text_width=12, text_tokens=6, min_frames=1, max_frames=2, repeat_last=True
)
PATH = ConsistencyConfig(min_steps=2, max_steps=8, schedule_steps=60)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*Starting from v1.9.*",
    "ignore:.*your dataloader is not resumable.*",
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a teacher and of its tokenizer, with random weights."""
    torch.manual_seed(0)
    config = TokenizerConfig(
        channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4, latent_channels=4
    )
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    kept = plain({"kind": "tokenizer", "net": asdict(config)})
    save_weights(tokenizer, kept, VideoTokenizer(config).state_dict())
    model = DiffusionWorldModel(
        net=NET, objective=EdmConfig(), conditioner=CONDITIONER, sampler=SamplerConfig()
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.set_latent_statistics(torch.randn(4, 2), torch.rand(4, 2) + 0.5)
    teacher = tmp_path_factory.mktemp("teacher")
    save_weights(teacher, plain(model.export_config()), model.state_dict())
    return {"teacher": str(teacher), "tokenizer": str(tokenizer)}


@pytest.fixture
def make(published) -> Callable[..., DistillationModule]:
    def module(**changes: Any) -> DistillationModule:
        values: dict[str, Any] = {
            **published,
            "consistency": PATH,
            "sampler": SamplerConfig(num_steps=1, guidance=0.0),
            "optimizer": partial(torch.optim.AdamW, lr=2e-3),
            "scheduler": None,
            "seed": 7,
            **changes,
        }
        return DistillationModule(**values)

    return module


def batch(seed: int = 0, size: int = 4) -> VideoBatch:
    generator = torch.Generator().manual_seed(seed)
    return VideoBatch(
        key=tuple(f"{seed}/{i}" for i in range(size)),
        fps=torch.full((size,), 24.0),
        latents=torch.randn(size, 4, 3, 4, 4, generator=generator),
        text=torch.randn(size, 4, 12, generator=generator),
    )


def fit(
    module: DistillationModule,
    folder: Path,
    steps: int,
    *,
    resume: Path | None = None,
    many: int = 1,
) -> L.Trainer:
    """``many`` different batches, over and over; with one it does not matter where to resume."""
    trainer = L.Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    batches = [batch(i % many) for i in range(steps)]
    loaders = [DataLoader(part, batch_size=None) for part in (batches, batches[:1])]  # type: ignore[arg-type]
    trainer.fit(module, *loaders, ckpt_path=resume)
    return trainer


def futures(model: DiffusionWorldModel, steps: int, kind: str = "euler") -> torch.Tensor:
    data = batch(99, 8)
    assert data.latents is not None
    return model.generate_latents(
        condition=data.latents[:, :, :1],
        num_latent_frames=3,
        text=data.text,
        fps=data.fps,
        seed=3,
        sampler=SamplerConfig(kind=kind, num_steps=steps, guidance=0.0),
    )[:, :, 1:]


def test_a_student_makes_in_one_step_what_its_teacher_makes_in_many(make, published, tmp_path):
    teacher = load_world_model(published["teacher"])
    module = make()
    fit(module, tmp_path, 100, many=100)
    student = module.world_model.eval()
    goal, alone = futures(teacher, 8), futures(teacher, 1)
    before = float((alone - goal).square().mean())
    after = float((futures(student, 1) - goal).square().mean())
    assert after < 0.85 * before, (before, after)
    # Published like any world: same config but for the sampler, same names, teacher untouched.
    save_weights(tmp_path / "w", plain(module.export_config()), module.export_tensors())
    again = load_world_model(tmp_path / "w")
    assert again.sampler == SamplerConfig(num_steps=1, guidance=0.0)
    assert again.net.config == teacher.net.config
    assert torch.equal(futures(again, 1), futures(student, 1))
    fresh = load_world_model(published["teacher"])
    kept = module._teacher.on(torch.device("cpu"))
    for name, tensor in fresh.net.state_dict().items():
        assert torch.equal(tensor, kept.state_dict()[name])
    assert torch.equal(again.latent_mean, teacher.latent_mean)


def test_a_student_begins_as_its_teacher(make, published):
    teacher = load_world_model(published["teacher"])
    module = make()
    assert torch.equal(futures(module.world_model.eval(), 3), futures(teacher, 3))
    trained = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups
               for p in group["params"]}  # fmt: skip
    assert trained == {id(p) for p in module.world_model.parameters()}


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_resumed_equals_uninterrupted(make, tmp_path, decay):
    """Across a doubling of the path; the target is in the checkpoint, the teacher is not."""
    path = replace(PATH, target_decay=decay, schedule_steps=6)
    whole = make(consistency=path)
    fit(whole, tmp_path, 6)
    half = make(consistency=path)
    fit(half, tmp_path, 3).save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in saved} == {"model"} | ({"target"} if decay else set())
    resumed = make(consistency=path)
    fit(resumed, tmp_path, 6, resume=tmp_path / "half.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_target_follows_the_student(make, tmp_path):
    module = make(consistency=replace(PATH, target_decay=0.75))
    start = {n: t.clone() for n, t in module.world_model.net.state_dict().items()}
    fit(module, tmp_path, 1)
    assert module.target is not None
    for name, tensor in module.target.named_parameters():
        now = module.world_model.net.get_parameter(name)
        torch.testing.assert_close(tensor, 0.75 * start[name] + 0.25 * now)
        assert not tensor.requires_grad


def test_guidance_of_the_teacher_is_distilled(make):
    """The guided teacher is conditional + g·(conditional - unconditional), sample by sample."""
    module = make(consistency=replace(PATH, guidance=2.0))
    model, data = module.world_model, batch()
    clean = model.normalise(data.latents)
    draws = model.draw(clean.shape, torch.Generator().manual_seed(0))
    condition = model.conditioner.training(
        clean, draws.condition, text=data.text, fps=data.fps, padding_mask=None
    )
    silent = replace(condition, text=torch.zeros_like(condition.text))
    sigma = torch.tensor([80.0, 3.0, 0.5, 0.01])
    noisy = clean + sigma.view(-1, 1, 1, 1, 1) * draws.noise
    found = module._guided_teacher(condition, model)(noisy, sigma)
    with_text = denoise(model.net, noisy, sigma, condition, 0.5)
    without = denoise(model.net, noisy, sigma, silent, 0.5)
    torch.testing.assert_close(found, with_text + 2.0 * (with_text - without), atol=1e-4, rtol=1e-4)


def test_mistakes_are_named_before_training(make, published, tmp_path):
    folder = tmp_path / "other"
    save_weights(folder, {"kind": "world", "family": "autoregressive"}, {})
    with pytest.raises(ValueError, match="family=autoregressive: must be a diffusion world"):
        make(teacher=str(folder))
    config = read_json(Path(published["teacher"]) / "config.json")
    config["conditioner"]["text_dropout"] = 0.0
    write_json(folder / "config.json", config)
    with pytest.raises(ValueError, match=r"consistency.guidance=1.0: must be 0 .*text_dropout=0"):
        make(teacher=str(folder), consistency=replace(PATH, guidance=1.0))


def test_not_finite_is_named(make, tmp_path):
    module = make()
    data = replace(batch(), latents=batch().latents * torch.nan)
    draws = module.world_model.draw(data.latents.shape, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="loss=nan at step 0 with clips 0/0, 0/1"):
        module._loss(data, data.latents, draws)


def test_the_config_builds_it(published):
    overrides = ["model=distillation", "data=latents", "data.config.shards=x", "paths.run=x"]
    overrides += [f"model.{name}={folder}" for name, folder in published.items()]
    module = build(compose("train", overrides).model)
    assert isinstance(module, DistillationModule)
    assert module.consistency == ConsistencyConfig() and module.sampler_config.guidance == 0
