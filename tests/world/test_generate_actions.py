"""``openwfm generate … actions=…``: a frame for each action, and errors that name the field."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openwfm.commands import generate as generate_command
from openwfm.config import compose
from openwfm.data.members import ActionTrack, action_bytes
from openwfm.video import from_uint8, read_provenance, read_video, write_png, write_video
from openwfm.weights import plain, save_weights
from openwfm.world import World
from openwfm.world.action import ActionWorld
from tests.posttraining.test_action import ACTION
from tests.world.test_action_world import TOKENIZER, world

VALUES = np.random.default_rng(0).normal(size=(3, 2))
TRACK = ActionTrack(values=VALUES, names=ACTION.names, units=ACTION.units, rate=ACTION.rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found, here = tmp_path_factory.mktemp("action_world"), world()
    config = {**here.model.export_config(), "frame_by_frame": True}
    config["data"] = {"size": [32, 32], "num_frames": 3, "fps": ACTION.rate}
    save_weights(found, plain(config), here.model.state_dict())
    coder = plain({"kind": "tokenizer", "net": asdict(TOKENIZER)})
    save_weights(found / "tokenizer", coder, here.tokenizer.state_dict())
    write_png(found / "image.png", torch.full((32, 32, 3), 90, dtype=torch.uint8))
    write_video(found / "clip.mp4", torch.full((5, 32, 32, 3), 90, dtype=torch.uint8), 5)
    (found / "actions.npz").write_bytes(action_bytes(TRACK))
    return found


def told(**changes: Any) -> str:
    names, units = list(ACTION.names), list(ACTION.units)
    values = {"values": VALUES.tolist(), "names": names, "units": units, "rate": ACTION.rate}
    return json.dumps({**values, **changes})


@pytest.mark.parametrize(("source", "given"), [("image.png", 1), ("clip.mp4", 2)])
def test_a_frame_for_each_action(folder: Path, tmp_path: Path, source: str, given: int) -> None:
    (tmp_path / "actions.json").write_text(told())
    videos = []
    for number, actions in enumerate((folder / "actions.npz", tmp_path / "actions.json")):
        out = tmp_path / f"{number}.mp4"
        asked = [f"run={folder}", f"frames={folder / source}", f"actions={actions}", f"out={out}"]
        assert generate_command.main(compose("generate", asked)) == 0
        videos.append(read_video(out)[0])
        facts = read_provenance(out)
        assert facts["actions"] == {"steps": 3, "names": list(ACTION.names)}
        assert facts["condition"]["frames"] == given and facts["fps"] == ACTION.rate
    assert videos[0].shape == (given + 3, 32, 32, 3)
    assert torch.equal(videos[0], videos[1])
    here = World.load(folder)
    assert isinstance(here, ActionWorld)
    frames = from_uint8(read_video(folder / source, last=2)[0])
    shorter = here.generate(frames=frames, actions=TRACK, num_frames=given + 2)
    longer = here.generate(frames=frames, actions=TRACK)
    assert torch.equal(shorter.video, longer.video[:, : given + 2])
    other = here.generate(frames=frames, actions=replace(TRACK, values=-VALUES))
    assert not torch.equal(other.video, longer.video)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": [[0.0, 1.0, 2.0]]}, r"action\.values: shape \(1, 3\): must be \(n 2\)"),
        ({"values": [[float("nan"), 0.0]]}, r"action\.values: .*finite"),
        ({"values": [["a", "b"]]}, "could not convert"),
        ({"rate": 10.0}, r"actions\.rate=10\.0: must be 5\.0 a second"),
        ({"units": ["cm", "m"]}, r"actions\.units: 2 of them, cm, m: must be 2"),
        ({"values": [], "names": []}, "shape|units"),
        (
            {"values": [[0.0] * 3], "names": ["x", "y", "z"], "units": ["m"] * 3},
            r"actions\.names: 3 of them, x, y, z: must be 2",
        ),
    ],
)
def test_actions_of_another_kind(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "actions.json").write_text(told(**changes))
    image, actions, out = folder / "image.png", tmp_path / "actions.json", tmp_path / "x.mp4"
    asked = [f"run={folder}", f"frames={image}", f"actions={actions}", f"out={out}"]
    with pytest.raises(ValueError, match=words):
        generate_command.main(compose("generate", asked))


def test_files_and_numbers_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    here, frames = World.load(folder), torch.zeros(3, 2, 32, 32)
    (tmp_path / "half.json").write_text('{"values": []}')
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "no.npz").write_bytes(b"no")
    for source, words in (
        ("none.npz", "no such file"),
        ("actions.csv", "must be a file .npz or .json"),
        ("half.json", "must be an object with values, names, units, rate"),
        ("no.json", "no json"),
        ("no.npz", "not a readable npz"),
    ):
        with pytest.raises(ValueError, match=words):
            here.generate(frames=frames, actions=tmp_path / source)
    for wrong, words in (
        ({"num_frames": 9}, "num_frames=9: must be 3 to 5"),
        ({"fps": 24.0}, "fps=24.0: must be the actions' rate"),
        ({"prompt": "a cup"}, "prompt: this world reads no text"),
    ):
        with pytest.raises(ValueError, match=words):
            here.generate(frames=frames, actions=TRACK, **wrong)
