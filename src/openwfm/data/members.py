"""The members of a shard sample that carry truth beside the video, as checked values and as bytes.

Equal values give equal bytes; nothing is ever unpickled.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

TRAJECTORY_POINTS, TRAJECTORY_STEP = 64, 0.1


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed npz of plain arrays, keys sorted. Raises ValueError for object arrays."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{name}: dtype {np.asarray(array).dtype}: must not hold objects")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_npz(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Raises ValueError naming the member when it is no npz of plain arrays."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{name}: not a readable npz ({error})") from error


def _check(name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
    matches = len(array.shape) == len(shape) and all(
        want in (None, size) for want, size in zip(shape, array.shape, strict=True)
    )
    if not matches or not np.isfinite(array).all():
        wanted = " ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: shape {array.shape}: must be ({wanted}) and finite")


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraTrack:
    """``camera.npz``: a camera at every frame.

    ``intrinsics`` ``t 3 3`` in pixels, ``camera_to_world`` ``t 4 4`` with OpenCV axes and metres;
    image coordinates start at the outer corner of the top left pixel.
    """

    intrinsics: np.ndarray
    camera_to_world: np.ndarray

    def __post_init__(self) -> None:
        _check("camera.intrinsics", self.intrinsics, (None, 3, 3))
        _check("camera.camera_to_world", self.camera_to_world, (len(self.intrinsics), 4, 4))


def camera_bytes(tracks: Mapping[str, CameraTrack]) -> bytes:
    """One camera as ``t 3 3`` and ``t 4 4``; several (by view name) with a leading view axis and
    their names in ``views``."""
    intrinsics = np.stack([track.intrinsics for track in tracks.values()])
    poses = np.stack([track.camera_to_world for track in tracks.values()])
    if len(tracks) == 1:
        return npz_bytes({"intrinsics": intrinsics[0], "camera_to_world": poses[0]})
    names = np.array(list(tracks))
    return npz_bytes({"intrinsics": intrinsics, "camera_to_world": poses, "views": names})


def read_camera(data: bytes, name: str = "camera.npz") -> dict[str, CameraTrack]:
    """By view; a single camera is called ``main``."""
    arrays = read_npz(data, name)
    try:
        intrinsics, poses = arrays["intrinsics"], arrays["camera_to_world"]
    except KeyError as error:
        raise ValueError(f"{name}: lacks {error}") from error
    if "views" not in arrays:
        return {"main": CameraTrack(intrinsics=intrinsics, camera_to_world=poses)}
    views = [str(view) for view in arrays["views"]]
    return {
        view: CameraTrack(intrinsics=k, camera_to_world=pose)
        for view, k, pose in zip(views, intrinsics, poses, strict=True)
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionTrack:
    """``action.npz``: ``values`` ``s a`` at ``rate`` a second; step i leads from frame i to i+1
    when the rate is the video's. ``names`` and ``units`` have one entry for each dimension."""

    values: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    rate: float

    def __post_init__(self) -> None:
        _check("action.values", self.values, (None, len(self.names)))
        if len(self.units) != len(self.names):
            raise ValueError(
                f"action.units: {len(self.units)} of them: must be {len(self.names)}, as names"
            )
        if not self.rate > 0:
            raise ValueError(f"action.rate={self.rate}: must be positive")


def action_bytes(track: ActionTrack) -> bytes:
    texts = {"names": np.array(track.names, np.str_), "units": np.array(track.units, np.str_)}
    return npz_bytes({"values": track.values, "rate": np.float64(track.rate), **texts})  # type: ignore[dict-item]


def read_action(data: bytes, name: str = "action.npz") -> ActionTrack:
    arrays = read_npz(data, name)
    try:
        return ActionTrack(
            values=arrays["values"],
            names=tuple(map(str, arrays["names"])),
            units=tuple(map(str, arrays["units"])),
            rate=float(arrays["rate"]),
        )
    except KeyError as error:
        raise ValueError(f"{name}: lacks {error}") from error


def trajectory_bytes(points: np.ndarray) -> bytes:
    """``64 3`` metres in the ego frame (x forward, y left, z up) of the first frame, 0.1 s apart,
    the first point one step ahead."""
    _check("trajectory", points, (TRAJECTORY_POINTS, 3))
    return npz_bytes({"points": points, "seconds": np.float64(TRAJECTORY_STEP)})  # type: ignore[dict-item]


def read_trajectory(data: bytes, name: str = "trajectory.npz") -> np.ndarray:
    arrays = read_npz(data, name)
    if "points" not in arrays:
        raise ValueError(f"{name}: lacks points")
    _check(name, arrays["points"], (TRAJECTORY_POINTS, 3))
    return arrays["points"]
