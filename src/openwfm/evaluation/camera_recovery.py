"""The path of the camera that took a clip, read out of its frames by pycolmap.

Pictures of nano worlds are too small and too soft for feature descriptors, and points that are
followed one by one get lost in them. So points of a grid go along with dense optical flow (Kroeger
et al. 2016, inverse search) between every fourth frame, and pycolmap gets those tracks with known
intrinsics. From there it is structure from motion as usual: two-view geometries, then incremental
mapping. A camera that only turns cannot be mapped; its turns are read from two-view geometries,
chained along the clip.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from openwfm.extras import require

ENLARGE = 4  # pixels are a fraction of one wide in what is followed
SPACING = 12  # enlarged pixels between the points that are followed
AGREE = 8.0  # enlarged pixels between a point and where it comes back to
ERROR = 2.0  # enlarged pixels from an epipolar line that are no outlier
LEAST, MOST = 24, 400  # points that two pictures must share, and that are used of them
HOP = 4  # frames between the pictures that are used


@dataclass(frozen=True, kw_only=True, eq=False)
class RecoveredPath:
    """``turns`` camera-to-world ``n 3 3`` of the frames ``hops``, seen from the first frame, None
    where two pictures share too little; ``poses`` ``m 4 4`` of ``frames``, in axes and unit of the
    reconstruction's own, None where there is none of at least three quarters of the ``hops``."""

    hops: tuple[int, ...]
    turns: Float[np.ndarray, "n 3 3"] | None
    frames: tuple[int, ...]
    poses: Float[np.ndarray, "m 4 4"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracks:
    """Where points are seen: ``places`` ``t p 2`` in enlarged pixels, NaN where they are not."""

    places: Float[np.ndarray, "t p 2"]

    def shared(self, i: int, j: int) -> np.ndarray:
        """Indices of points that both pictures show; evenly `MOST` of them where there are more."""
        seen = np.isfinite(self.places[..., 0])
        points = np.flatnonzero(seen[i] & seen[j])
        return points[:: max(1, -(-len(points) // MOST))]


def follow(pictures: UInt8[np.ndarray, "t h w 3"]) -> Tracks:
    """Points of a grid in every picture, carried to both ends of the row."""
    cv2 = require("cv2", extra="cameras")
    grey = [_enlarged(cv2, picture) for picture in pictures]
    height, width = grey[0].shape
    half, last = SPACING / 2, len(grey) - 1
    grid = np.stack(
        np.meshgrid(np.arange(half, width, SPACING), np.arange(half, height, SPACING)), axis=-1
    ).reshape(-1, 2)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = {
        (i, i + step): search.calc(grey[i], grey[i + step], None)
        for i in range(len(grey))
        for step in (1, -1)
        if 0 <= i + step <= last
    }
    parts = []
    for seed in range(len(grey)):
        places = np.full((len(grey), len(grid), 2), np.nan)
        places[seed] = grid
        for step in (1, -1):
            here = seed
            while 0 <= here + step <= last:
                there = here + step
                places[there] = _carried(cv2, places[here], flows[here, there], flows[there, here])
                here = there
        parts.append(places)
    return Tracks(places=np.concatenate(parts, axis=1))


def _enlarged(cv2: Any, frame: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    size = (grey.shape[1] * ENLARGE, grey.shape[0] * ENLARGE)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC))


def _carried(cv2: Any, places: np.ndarray, flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """``places`` after ``flow``; NaN for those outside, or that ``back`` does not bring back."""
    moved = places + _sampled(cv2, flow, places)
    away = np.linalg.norm(moved + _sampled(cv2, back, moved) - places, axis=1)
    inside = (moved >= 0).all(1) & (moved <= np.array(flow.shape[1::-1]) - 1).all(1)
    moved[~(inside & (away < AGREE))] = np.nan
    return moved


def _sampled(cv2: Any, flow: np.ndarray, places: np.ndarray) -> np.ndarray:
    x, y = (
        np.nan_to_num(places[:, axis : axis + 1], nan=-1e6).astype(np.float32) for axis in (0, 1)
    )
    found = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found)[:, 0]


def recover_path(
    frames: UInt8[np.ndarray, "t h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    *,
    seed: int = 0,
    mapping: bool = True,
) -> RecoveredPath:
    """``intrinsics`` in pixels of ``frames``; without ``mapping`` there are turns only.

    The same clip and ``seed`` give the same path.
    """
    pycolmap = require("pycolmap", extra="cameras")
    pycolmap.logging.minloglevel = 3
    pycolmap.set_random_seed(seed)
    height, width = (side * ENLARGE for side in frames.shape[1:3])
    focal = [intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]]
    camera = pycolmap.Camera(
        model="PINHOLE", width=width, height=height, params=[ENLARGE * value for value in focal]
    )
    camera.has_prior_focal_length = True
    hops = tuple(range(0, len(frames), HOP))
    tracks = follow(frames[list(hops)])
    turns = _chain(pycolmap, camera, tracks, seed)
    found = _mapped(pycolmap, camera, tracks, seed) if mapping else {}
    seen = sorted(found) if len(found) >= 0.75 * len(hops) else []
    return RecoveredPath(
        hops=hops,
        turns=turns,
        frames=tuple(hops[index] for index in seen),
        poses=np.stack([found[index] for index in seen]) if seen else None,
    )


def _pair(
    pycolmap: Any, camera: Any, tracks: Tracks, i: int, j: int, seed: int, *, pose: bool = False
) -> Any:
    """Two-view geometry of frames i and j; None where they share too little."""
    points = tracks.shared(i, j)
    if len(points) < LEAST:
        return None
    options = pycolmap.TwoViewGeometryOptions(compute_relative_pose=pose, detect_watermark=False)
    options.ransac.max_error = ERROR
    options.ransac.max_num_trials = 1000
    options.ransac.random_seed = seed
    matches = np.stack([np.arange(len(points))] * 2, axis=1).astype(np.uint32)
    places = [tracks.places[frame, points].astype(np.float64) for frame in (i, j)]
    return pycolmap.estimate_calibrated_two_view_geometry(
        camera, places[0], camera, places[1], matches, options
    )


def _chain(pycolmap: Any, camera: Any, tracks: Tracks, seed: int) -> np.ndarray | None:
    turns = [np.eye(3)]
    for i in range(len(tracks.places) - 1):
        geometry = _pair(pycolmap, camera, tracks, i, i + 1, seed, pose=True)
        if geometry is None or geometry.cam2_from_cam1 is None:
            return None
        turn = geometry.cam2_from_cam1.rotation.matrix()
        turns.append(turns[-1] @ turn.T)
    return np.stack(turns)


def _mapped(pycolmap: Any, camera: Any, tracks: Tracks, seed: int) -> dict[int, np.ndarray]:
    """Camera-to-world ``4 4`` of the pictures of the largest model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _write_database(pycolmap, path, camera, tracks, seed)
        options = pycolmap.IncrementalPipelineOptions(
            num_threads=1, random_seed=seed, multiple_models=False, extract_colors=False,
            ba_refine_focal_length=False, ba_refine_principal_point=False,
            ba_refine_extra_params=False, min_model_size=3, max_runtime_seconds=6,
        )  # fmt: skip
        options.mapper.init_min_tri_angle = 1.5
        options.mapper.init_min_num_inliers = 40
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.filter_min_tri_angle = 0.3
        options.mapper.abs_pose_min_num_inliers = 20
        options.triangulation.min_angle = 0.3
        models = pycolmap.incremental_mapping(path / "db", path, path / "out", options=options)
        if not models:
            return {}
        best = max(models.values(), key=lambda model: int(model.num_reg_images()))
        found = {}
        for image in best.images.values():
            if image.has_pose:
                pose = np.eye(4)
                pose[:3] = image.cam_from_world().inverse().matrix()
                found[int(image.name)] = pose
        return found


def _write_database(pycolmap: Any, path: Path, camera: Any, tracks: Tracks, seed: int) -> None:
    database = pycolmap.Database.open(path / "db")
    number = database.write_camera(camera)
    camera.camera_id = number
    rig = pycolmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    rig.rig_id = database.write_rig(rig)
    count = len(tracks.places)
    rank, images = {}, {}
    for index in range(count):
        seen = np.flatnonzero(np.isfinite(tracks.places[index, :, 0]))
        image = pycolmap.Image(name=str(index), camera_id=number)
        image.image_id = images[index] = database.write_image(image)
        frame = pycolmap.Frame()
        frame.rig_id = rig.rig_id
        frame.add_data_id(image.data_id)
        database.write_frame(frame)
        database.write_keypoints(images[index], tracks.places[index, seen].astype(np.float32))
        where = np.full(tracks.places.shape[1], -1)
        where[seen] = np.arange(len(seen))
        rank[index] = where
    for i in range(count):
        for j in range(i + 1, count):
            geometry = _pair(pycolmap, camera, tracks, i, j, seed)
            if geometry is None:
                continue
            points = tracks.shared(i, j)
            inliers = points[geometry.inlier_matches[:, 0].astype(int)]
            pairs = [np.stack([rank[i][p], rank[j][p]], axis=1) for p in (points, inliers)]
            database.write_matches(images[i], images[j], pairs[0].astype(np.uint32))
            geometry.inlier_matches = pairs[1].astype(np.uint32)
            database.write_two_view_geometry(images[i], images[j], geometry)
    database.close()
