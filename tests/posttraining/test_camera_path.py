"""Paths from files and from a joystick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from openwfm.posttraining.camera_path import CameraPath, joystick, pinhole, read_path
from openwfm.posttraining.rays import check_poses


def test_a_joystick_goes_where_it_says() -> None:
    path = joystick("forward*3 turn_left*30 forward*3", step=0.5, turn=3.0)
    check_poses(path)
    assert len(path) == 37
    assert torch.allclose(path[3, :3, 3], torch.tensor([0.0, 0.0, 1.5]), atol=1e-6)
    # A quarter turn to the left: forward is now the old left, -x.
    assert torch.allclose(path[-1, :3, 3], torch.tensor([-1.5, 0.0, 1.5]), atol=1e-5)
    there_and_back = joystick("turn_right*7 up*2 stay left down*2 right turn_left*7")
    assert torch.allclose(there_and_back[-1], torch.eye(4), atol=1e-6)


def test_moves_that_are_none_are_named() -> None:
    with pytest.raises(ValueError, match="sideways"):
        joystick("forward sideways*3")
    with pytest.raises(ValueError, match="forward"):
        joystick("forward*9999999999")


def test_files_in_all_forms_read_the_same(tmp_path: Path) -> None:
    poses, matrix = joystick("forward*8"), pinhole((48, 64), 60.0)
    forms: list[dict[str, Any]] = [
        {"fovy": 60, "moves": "forward*8"},
        {"intrinsics": matrix.tolist(), "camera_to_world": poses.tolist()},
        {"intrinsics": [matrix.tolist()] * 9, "moves": "forward*4, forward*4"},
    ]
    for number, form in enumerate(forms):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps({"size": [48, 64], **form}))
        path = read_path(file)
        assert torch.allclose(path.camera_to_world, poses, atol=1e-6)
        assert torch.allclose(path.intrinsics, matrix.expand(9, -1, -1))
        path.require(9)
        with pytest.raises(ValueError, match="9 frames: must be num_frames=17"):
            path.require(17)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"size": [48, 64]}',
        '{"size": [48, 64], "moves": "forward", "camera_to_world": []}',
        '{"size": [48, 64], "moves": "forward"}',
        '{"size": [48], "moves": "forward", "fovy": 50}',
        '{"size": [48, 0], "moves": "forward", "fovy": 50}',
        '{"size": [48, 64], "moves": "forward", "fovy": 0}',
        '{"size": [48, 64], "moves": "forward", "fovy": "wide"}',
        '{"size": [48, 64], "moves": "forward", "fovy": 50, "extra": 1}',
        '{"size": [48, 64], "camera_to_world": [[1, 2], [3]], "fovy": 50}',
        '{"size": [48, 64], "camera_to_world": [[[1, 2], [3, 4]]], "fovy": 50}',
        '{"size": [48, 64], "moves": "forward", "intrinsics": [[1, 2], [3, 4]]}',
        '{"size": [48, 64], "moves": "forward*3", "intrinsics": [[[1,0,0],[0,1,0],[0,0,1]]]}',
        '{"size": [1e400, 64], "moves": "forward", "fovy": 50}',
    ],
)
def test_files_that_are_no_paths_say_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "camera.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"camera\.json"):
        read_path(file)


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="3 intrinsics and 4 poses"):
        CameraPath(
            intrinsics=pinhole((8, 8), 50).repeat(3, 1, 1),
            camera_to_world=joystick("forward*3"),
            size=(8, 8),
        )
