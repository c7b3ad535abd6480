"""A world of six views, from weights to files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.posttraining.driving import VIEWS, TrajectoryConfig
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.video import read_provenance, read_video, to_uint8, write_video
from openwfm.weights import plain, save_weights
from openwfm.world import World
from openwfm.world.multiview import MultiViewWorld, grid

SIZE, FRAMES = (32, 48), 9
NET = DiTConfig(
    width=32, num_blocks=1, num_heads=2, adaln_rank=8, text_width=384, padding_mask=False,
    rope_scale=(1.0, 1.0, 1.0), max_size=(8, 16, 16), num_views=6, view_channels=3,
    extra_channels=4, in_channels=4, out_channels=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("driving")
    model = DiffusionWorldModel(
        net=NET, objective=EdmConfig(),
        conditioner=ConditionerConfig(
            text_encoder="minilm-l6-v2", text_tokens=8, min_frames=1, max_frames=1,
            repeat_last=True,
        ),
        sampler=SamplerConfig(num_steps=2, guidance=0.0),
        control=TrajectoryConfig(hidden=8).build(32),
    )  # fmt: skip
    for parameter in model.net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.set_latent_statistics(torch.zeros(4, 2), torch.ones(4, 2))
    data = {"views": list(VIEWS), "size": list(SIZE), "num_frames": FRAMES, "fps": 10.0}
    save_weights(root, {**plain(model.export_config()), "data": data}, model.state_dict())
    config = TokenizerConfig(
        channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4, latent_channels=4
    )
    tokens = VideoTokenizer(config).state_dict()
    save_weights(root / "tokenizer", plain({"kind": "tokenizer", "net": asdict(config)}), tokens)
    return root


@pytest.fixture
def world(folder: Path) -> MultiViewWorld:
    world = World.load(folder)
    assert isinstance(world, MultiViewWorld) and world.views == VIEWS
    return world


def films() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {view: torch.rand(3, 1, *SIZE) * 2 - 1 for view in VIEWS}


def ahead(speed: float) -> torch.Tensor:
    points = torch.zeros(64, 3)
    points[:, 0] = torch.arange(1, 65) * speed
    return points


def test_every_view_continues_its_own_frame_and_files_are_written(
    world: MultiViewWorld, tmp_path: Path
) -> None:
    given = films()
    made = world.generate(frames=given, trajectory=ahead(0.5), seed=4)
    assert set(made.views) == set(VIEWS)
    for view, video in made.views.items():
        assert video.shape == (3, FRAMES, *SIZE)
        assert torch.equal(video[:, :1], given[view])
    assert made.video.shape == (3, FRAMES, 2 * SIZE[0], 3 * SIZE[1])
    made.save(tmp_path / "drive.mp4")
    for name, view in (("drive.mp4", None), ("drive.rear_left.mp4", "rear_left")):
        provenance = read_provenance(tmp_path / name)
        assert provenance["synthetic"] and provenance.get("view") == view
    video, _ = read_video(tmp_path / "drive.mp4")
    assert tuple(video.shape[1:3]) == (2 * SIZE[0], 3 * SIZE[1])
    again = world.generate(frames=given, trajectory=ahead(0.5), seed=4)
    assert torch.equal(again.video, made.video)


def test_the_grid_is_the_release_s() -> None:
    views = {view: torch.full((1, 1, 1, 1), float(i)) for i, view in enumerate(VIEWS)}
    assert grid(views)[0, 0].tolist() == [[1, 0, 2], [4, 3, 5]]


def test_frames_and_trajectories_come_from_files(world: MultiViewWorld, tmp_path: Path) -> None:
    for view, film in films().items():
        write_video(tmp_path / f"{view}.mp4", to_uint8(film), 10.0)
    path = tmp_path / "path.json"
    path.write_text(json.dumps(ahead(0.5).tolist()))
    made = world.generate(frames=tmp_path, trajectory=path)
    assert made.provenance["trajectory"]["file"] == "path.json"
    (tmp_path / "rear.mp4").unlink()
    with pytest.raises(ValueError, match="missing rear"):
        world.generate(frames=tmp_path, trajectory=path)
    path.write_text(json.dumps(ahead(0.5)[:40].tolist()))
    with pytest.raises(ValueError, match="40, 3"):
        world.generate(frames=films(), trajectory=path)


def test_bad_requests_name_the_argument(world: MultiViewWorld) -> None:
    given = films()
    with pytest.raises(ValueError, match="trajectory: missing"):
        world.generate(frames=given)
    with pytest.raises(ValueError, match="prompts: 2"):
        world.generate(frames=given, trajectory=ahead(0.5), prompts=["a", "b"])
    with pytest.raises(ValueError, match="missing front"):
        world.generate(frames={v: f for v, f in given.items() if v != "front"})
    with pytest.raises(ValueError, match="first point"):
        world.generate(frames=given, trajectory=ahead(0.5) + 100)
