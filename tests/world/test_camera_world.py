"""A tiny camera world: paths in, films out, sessions, and what is said of paths that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openwfm.cli import main
from openwfm.data.batch import VideoBatch
from openwfm.diffusion.control import Controls
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.stages import widened
from openwfm.evaluation.camera import WRONG, clip_losses
from openwfm.posttraining.camera import CameraConfig
from openwfm.posttraining.camera_path import given_path, joystick, pinhole
from openwfm.shapes import Temporal
from openwfm.video import read_provenance, to_uint8, write_png
from openwfm.weights import plain, save_weights
from openwfm.world import Sampling, World, WorldFacts
from openwfm.world.camera import CameraWorld
from openwfm.world.diffusion import DiffusionWorld
from tests.posttraining.test_action import model, teach
from tests.world.test_action_world import TOKENIZER, tokenizer

PATH = given_path("forward*8 turn_left*8", (32, 32))


def base() -> DiffusionWorldModel:
    made = model(None)
    teach(made)
    return made.requires_grad_(False)


def world(trained: bool = True) -> CameraWorld:
    """Trained, or as it starts from `base`."""
    made = model(CameraConfig(path_length=None).build(32), extra_channels=6)
    tensors = dict(base().state_dict())
    tensors["net.patch_in.weight"] = widened(tensors["net.patch_in.weight"], made.net.config, 6)
    made.load_state_dict(tensors)
    if trained:
        teach(made, seed=2)
    facts = WorldFacts(
        temporal=Temporal(ratio=8), max_condition=1, needs_frames=True, weights_sha256={},
        size=(32, 32), num_frames=17, fps=12.0,
    )  # fmt: skip
    return CameraWorld(made.requires_grad_(False), tokenizer(), facts)


def picture(batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, 1, 32, 32, generator=generator) * 2 - 1


def predict(made: World, frames: Tensor, count: int = 17) -> Tensor:
    return made.predict(
        frames, text=None, num_frames=count, fps=torch.full((len(frames),), 12.0), seed=1,
        sampling=Sampling(),
    )  # fmt: skip


def test_a_film_follows_its_path_and_begins_with_the_picture() -> None:
    made = world()
    one = predict(made.along(PATH), picture())
    other = predict(made.along(given_path("back*16", (32, 32))), picture())
    assert one.shape == (1, 3, 17, 32, 32)
    assert torch.equal(one[:, :, :1], picture())
    assert float((one - other)[:, :, 1:].abs().max()) > 1e-3


def test_before_training_it_is_the_base_bit_for_bit() -> None:
    made = world(trained=False)
    plain_world = DiffusionWorld(base(), made.tokenizer, made.facts)
    assert torch.equal(predict(made.along(PATH), picture()), predict(plain_world, picture()))


def test_the_gauge_is_zero_for_a_world_that_cannot_see_the_camera() -> None:
    poses = torch.stack([PATH.camera_to_world, joystick("right*16")])
    batch = VideoBatch(
        key=("a", "b"), fps=torch.full((2,), 12.0), video=picture(2).expand(-1, -1, 17, -1, -1),
        intrinsics=PATH.intrinsics.expand(2, -1, -1, -1), camera_to_world=poses,
    )  # fmt: skip
    for trained in (False, True):
        made = world(trained)
        losses = clip_losses(made.model, made, batch, seed=0)
        changed = [not torch.equal(losses[name], losses["the right camera"]) for name in WRONG]
        assert changed == [trained] * 3


def test_no_camera_is_what_dropout_showed() -> None:
    made = world()
    controls = Controls(
        intrinsics=PATH.intrinsics[None], camera_to_world=PATH.camera_to_world[None],
        size=(32, 32), dropped=True,
    )  # fmt: skip
    other = replace(controls, camera_to_world=joystick("up*16")[None])
    assert torch.equal(
        predict(made.along(controls), picture()), predict(made.along(other), picture())
    )


def test_long_paths_are_made_in_chunks_and_the_first_is_that_of_a_short_one() -> None:
    made = world()
    long = predict(made.along(given_path("turn_left*40", (32, 32))), picture(), 41)
    short = predict(made.along(given_path("turn_left*16", (32, 32))), picture())
    assert long.shape[2] == 41
    assert torch.equal(long[:, :, :17], short)


def test_a_session_steps_forks_and_does_not_know_its_batch() -> None:
    made = world()
    session = made.session(picture(2), seeds=[3, 4])
    action = torch.tensor([0.0, 0.0, 0.5, 10.0, 0.0])
    session.step(action)
    assert session.clip.shape == (2, 3, 16, 32, 32)
    assert torch.equal(session.clip[:, :, -1], session.frames)
    fork = session.fork()
    assert torch.equal(session.step(action), fork.step(action))
    alone = made.session(picture(2)[1:], seeds=[4])
    alone.step(action)
    assert torch.allclose(alone.step(action)[0], session.frames[1], atol=1e-5)
    assert float((fork.step(-action) - session.step(action)).abs().max()) > 1e-4


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made, weights = world(), tmp_path / "run" / "weights"
    config = made.model.export_config()
    config["data"] = {"size": [32, 32], "num_frames": 17, "fps": 12.0}
    save_weights(weights, plain(config), made.model.state_dict())
    save_weights(
        weights / "tokenizer", plain({"kind": "tokenizer", "net": asdict(TOKENIZER)}),
        made.tokenizer.state_dict(),
    )  # fmt: skip
    write_png(tmp_path / "room.png", to_uint8(picture()[0])[0])
    return tmp_path


def test_generate_from_a_picture_and_a_path(run: Path) -> None:
    path = {"size": [64, 64], "fovy": 59, "moves": "forward*8 turn_left*8", "step": 0.05}
    (run / "path.json").write_text(json.dumps(path))
    arguments = [f"run={run / 'run'}", f"image={run / 'room.png'}"]
    for number, camera in enumerate((run / "path.json", "'forward*8 turn_left*8'")):
        out = run / f"{number}.mp4"
        assert main(["generate", *arguments, f"camera={camera}", f"out={out}"]) == 0
        assert len(read_provenance(out)["camera"]["camera_to_world"]) == 17
    assert isinstance(World.load(run / "run"), CameraWorld)


Change = Callable[[dict], None]


def _left_handed(path: dict) -> None:
    path["camera_to_world"][3][0][0] = -1.0


def _sheared(path: dict) -> None:
    path["camera_to_world"][3][0][1] = 0.2


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda path: path["camera_to_world"].pop(), "16 frames"),
        (_left_handed, "left-handed"),
        (_sheared, "from orthonormal"),
        (lambda path: path["intrinsics"][0].__setitem__(0, -3.0), "focal length -3"),
        (lambda path: path.__setitem__("size", [32, 64]), "shape of this world's pictures"),
    ],
)
def test_bad_paths_are_named(
    run: Path, change: Change, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = {
        "size": [32, 32],
        "intrinsics": pinhole((32, 32), 59.0).tolist(),
        "camera_to_world": joystick("forward*16").tolist(),
    }
    change(path)
    (run / "path.json").write_text(json.dumps(path))
    code = main(
        ["generate", f"run={run / 'run'}", f"image={run / 'room.png'}",
         f"camera={run / 'path.json'}", f"out={run / 'out.mp4'}", "num_frames=17"]
    )  # fmt: skip
    assert code != 0
    assert words in capsys.readouterr().err


def test_a_world_needs_a_path_or_takes_none(run_folder: Path) -> None:
    with pytest.raises(ValueError, match="camera: missing"):
        predict(world(), picture())
    with pytest.raises(ValueError, match="follows no camera path"):
        World.load(run_folder).generate(frames=picture()[0], camera="forward*16")
