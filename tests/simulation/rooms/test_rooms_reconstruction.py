"""An independent program reconstructs a room from its frames, and finds the cameras we stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from openwfm.simulation.rooms.config import RoomsConfig
from openwfm.simulation.rooms.world import RoomsWorld
from openwfm.video import write_png

pycolmap = pytest.importorskip("pycolmap")
WIDTH, HEIGHT, FRAMES = 480, 352, 14


def reconstruct(frames: np.ndarray, intrinsics: np.ndarray, folder: Path) -> dict[int, np.ndarray]:
    """World-to-camera ``3 4`` by frame, in the reconstruction's own scale and axes."""
    images = folder / "images"
    for index, frame in enumerate(frames):
        write_png(images / f"{index:04d}.png", torch.from_numpy(frame))
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(0)
    database = folder / "database.db"
    focal, _, cx = intrinsics[0]
    reader = pycolmap.ImageReaderOptions(
        camera_model="PINHOLE", camera_params=f"{focal},{focal},{cx},{intrinsics[1, 2]}"
    )
    extraction = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
    extraction.sift.max_num_features = 2048
    pycolmap.extract_features(
        database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
        extraction_options=extraction, device=pycolmap.Device.cpu,
    )  # fmt: skip
    matching = pycolmap.FeatureMatchingOptions(num_threads=1, use_gpu=False)
    pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
    options = pycolmap.IncrementalPipelineOptions(
        num_threads=1, random_seed=0, multiple_models=False,
        ba_refine_focal_length=False, ba_refine_principal_point=False, ba_refine_extra_params=False,
    )  # fmt: skip
    models = pycolmap.incremental_mapping(database, images, folder / "sparse", options=options)
    return {
        int(Path(image.name).stem): image.cam_from_world().matrix()
        for image in models[0].images.values()
    }


def align(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """``found`` points ``n 3`` after the similarity that fits ``true`` best (Umeyama 1991)."""
    a, b = found - found.mean(0), true - true.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * np.diag(sign)).sum() / (a**2).sum()
    return scale * a @ (u @ sign @ vt).T + true.mean(0)


def angle(rotation: np.ndarray) -> float:
    """Degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """The rotation nearest to all of them."""
    u, _, vt = np.linalg.svd(rotations.sum(0))
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt


@pytest.mark.slow
@pytest.mark.parametrize("kind, motion", [("living room", "walk"), ("courtyard", "orbit")])
def test_pycolmap_recovers_the_true_path(
    kind: str, motion: str, backend: str, tmp_path: Path
) -> None:
    config = RoomsConfig(
        width=WIDTH, height=HEIGHT, fps=6, num_frames=FRAMES, kinds=(kind,), motions=(motion,)
    )
    world = RoomsWorld(config, 0, backend)
    clip = world.film(0)
    world.close()
    track = clip.cameras["main"]
    found = reconstruct(clip.views["main"], track.intrinsics[0], tmp_path)
    assert len(found) == FRAMES
    poses = np.stack([found[index] for index in range(FRAMES)])
    turns = poses[:, :, :3].transpose(0, 2, 1)
    centres = -np.einsum("tij,tj->ti", turns, poses[:, :, 3])
    true = track.camera_to_world
    # All turns differ from the true ones by the one rotation between the two worlds' axes.
    between = mean_rotation(true[:, :3, :3] @ turns.transpose(0, 2, 1))
    errors = [angle(true[i, :3, :3].T @ between @ turns[i]) for i in range(FRAMES)]
    off = np.linalg.norm(align(centres, true[:, :3, 3]) - true[:, :3, 3], axis=1)
    assert np.max(errors) < 1.0
    assert off.max() < 0.02 * clip.facts["path_length"]
