"""Camera paths that people write: a JSON file, or moves of a joystick."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.posttraining.rays import check_intrinsics, check_poses

MOVES = ("forward", "back", "left", "right", "up", "down", "turn_left", "turn_right", "stay")
MOVE_STEP, MOVE_TURN, MOVE_FOVY = 0.05, 1.5, 59.0  # metres, degrees; of moves without a file


@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """A camera at every frame: ``intrinsics`` in pixels of ``size`` (rows, columns), poses with
    OpenCV axes. Raises ValueError for cameras that are none."""

    intrinsics: Float[Tensor, "t 3 3"]
    camera_to_world: Float[Tensor, "t 4 4"]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_intrinsics(self.intrinsics)
        check_poses(self.camera_to_world)
        if len(self.intrinsics) != len(self.camera_to_world):
            raise ValueError(
                f"camera: {len(self.intrinsics)} intrinsics and {len(self.camera_to_world)} poses: "
                "must be one of each for every frame"
            )
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"camera.size={self.size}: must be (rows, columns), both positive")

    def __len__(self) -> int:
        return len(self.intrinsics)

    def facts(self) -> dict[str, Any]:
        """For provenance: the whole path, readable by `read_path`."""
        return {
            "size": list(self.size),
            "intrinsics": self.intrinsics.tolist(),
            "camera_to_world": self.camera_to_world.tolist(),
        }

    def require(self, num_frames: int) -> None:
        """Raises ValueError for another number of frames."""
        if len(self) != num_frames:
            raise ValueError(f"camera: {len(self)} frames: must be num_frames={num_frames}")


def pinhole(size: tuple[int, int], fovy: float) -> Float[Tensor, "3 3"]:
    """Intrinsics with square pixels and a centred axis; ``fovy`` in degrees."""
    if not 0 < fovy < 180:
        raise ValueError(f"camera.fovy={fovy}: must be between 0 and 180 degrees")
    focal = size[0] / 2 / math.tan(math.radians(fovy) / 2)
    return torch.tensor([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1.0]])


def read_path(file: Path | str) -> CameraPath:
    """``{"size": [rows, columns], "intrinsics": …, "camera_to_world": [4×4, …]}``.

    ``intrinsics`` is one 3×3 matrix or one for every frame; ``"fovy": degrees`` may stand in its
    place, and ``"moves": "forward*8 turn_left*8"`` (`joystick`, with its ``step`` and ``turn``) in
    that of the poses.
    Raises ValueError naming the file and the field.
    """
    path = Path(file)
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    try:
        return _of_fields(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def given_path(camera: CameraPath | Path | str, size: tuple[int, int] | None) -> CameraPath:
    """A path as it is, from a file that ends in .json, or of moves as in ``forward*8 turn_left*8``
    (`joystick`, at `MOVE_STEP` and `MOVE_TURN`) for pictures of ``size``.

    Raises ValueError naming what does not fit.
    """
    if isinstance(camera, CameraPath):
        return camera
    if Path(camera).suffix.lower() == ".json":
        return read_path(camera)
    if size is None:
        raise ValueError("camera: moves need the size of the pictures, which the weights lack")
    poses = joystick(str(camera), step=MOVE_STEP, turn=MOVE_TURN)
    lens = pinhole(size, MOVE_FOVY).expand(len(poses), -1, -1).clone()
    return CameraPath(intrinsics=lens, camera_to_world=poses, size=size)


def _of_fields(data: Any) -> CameraPath:
    known = {"size", "intrinsics", "fovy", "camera_to_world", "moves", "step", "turn"}
    if not isinstance(data, dict) or "size" not in data or set(data) - known:
        raise ValueError(f"camera: must be an object with size and some of {sorted(known)}")
    size = tuple(int(n) for n in _numbers("size", data["size"], (2,)).tolist())
    if ("camera_to_world" in data) == ("moves" in data):
        raise ValueError("camera: must have either camera_to_world or moves")
    if "moves" in data:
        sizes = {n: float(_numbers(n, data[n], ())) for n in ("step", "turn") if n in data}
        poses = joystick(str(data["moves"]), **sizes)
    else:
        poses = _numbers("camera_to_world", data["camera_to_world"], (None, 4, 4))
    if ("intrinsics" in data) == ("fovy" in data):
        raise ValueError("camera: must have either intrinsics or fovy")
    if "fovy" in data:
        matrix = pinhole((size[0], size[1]), float(_numbers("fovy", data["fovy"], ())))
    else:
        matrix = _numbers("intrinsics", data["intrinsics"], None)
    if matrix.ndim == 2:
        matrix = matrix.expand(len(poses), -1, -1).clone()
    return CameraPath(intrinsics=matrix, camera_to_world=poses, size=(size[0], size[1]))


def _numbers(name: str, value: Any, shape: tuple[int | None, ...] | None) -> Tensor:
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"camera.{name}: must be numbers ({error})") from error
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"camera.{name}: must be finite")
    if shape is not None and (
        len(shape) != tensor.ndim
        or any(want not in (None, size) for want, size in zip(shape, tensor.shape, strict=True))
    ):
        raise ValueError(f"camera.{name}: shape {tuple(tensor.shape)}: must be {shape}")
    return tensor


def joystick(
    moves: str | Sequence[str], *, step: float = 0.1, turn: float = 3.0
) -> Float[Tensor, "t 4 4"]:
    """Poses of a camera that starts at the origin and makes one move a frame.

    ``moves``: names of `MOVES`, each perhaps ``*count``. ``step`` is metres a move in the camera's
    own axes, ``turn`` degrees about its vertical axis. One pose more than moves.
    """
    words = moves.replace(",", " ").split() if isinstance(moves, str) else list(moves)
    pose, poses = torch.eye(4, dtype=torch.float64), [torch.eye(4, dtype=torch.float64)]
    for word in words:
        match = re.fullmatch(r"([a-z_]+)(?:\*(\d{1,5}))?", word)
        if match is None or match[1] not in MOVES:
            raise ValueError(f"camera.moves: {word}: must be one of {', '.join(MOVES)} (*count)")
        for _ in range(int(match[2] or 1)):
            pose = pose @ _move(match[1], step, turn)
            poses.append(pose)
    return torch.stack(poses).float()


def _move(name: str, step: float, turn: float) -> Tensor:
    motion = torch.eye(4, dtype=torch.float64)
    axis = {"forward": (2, 1), "back": (2, -1), "left": (0, -1), "right": (0, 1)}
    axis |= {"up": (1, -1), "down": (1, 1)}
    if name in axis:
        index, sign = axis[name]
        motion[index, 3] = sign * step
    elif name != "stay":
        angle = math.radians(turn) * (1 if name == "turn_right" else -1)
        motion[0, 0] = motion[2, 2] = math.cos(angle)
        motion[0, 2], motion[2, 0] = math.sin(angle), -math.sin(angle)
    return motion
