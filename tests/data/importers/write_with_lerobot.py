"""Write the small real datasets of ``fixtures/`` with a lerobot package.

``python write_with_lerobot.py OUT``: with ``lerobot-dataset`` 0.4.4 (``ledataset``) a v3.0 dataset,
with ``lerobot`` 0.3.3 a v2.1 dataset. Three episodes of two tasks, 7, 5 and 6 frames at 10 fps of
two cameras (48x32 video, and 33x31 pictures in the table), a 3-d action, and columns of several
kinds; `episode` says what was put in. The tests read what this wrote; they do not run it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

LENGTHS, FPS = (7, 5, 6), 10
TASKS = ("Push the red block to the left.", "Lift the cup.", "Push the red block to the left.")
FEATURES = {
    "observation.images.top": {
        "dtype": "video", "shape": (32, 48, 3), "names": ["height", "width", "channels"],
    },
    "observation.images.wrist": {
        "dtype": "image", "shape": (31, 33, 3), "names": ["height", "width", "channels"],
    },
    "observation.state": {"dtype": "float32", "shape": (4,), "names": ["a", "b", "c", "gripper"]},
    "action": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "gripper"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "touch": {"dtype": "float32", "shape": (2, 3), "names": None},
}  # fmt: skip


def picture(height: int, width: int, step: int, seed: int) -> np.ndarray:
    """A square that moves over a ramp."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 4, columns * 4, np.full_like(rows, 40 + 30 * seed)], -1)
    image = np.clip(image, 0, 255).astype(np.uint8)
    image[8:16, 4 + 3 * step : 12 + 3 * step] = (230, 60 + 40 * seed, 40)
    return image


def episode(index: int) -> dict[str, np.ndarray]:
    """Every column of episode ``index``, ``t …``."""
    draw, length = np.random.default_rng(index), LENGTHS[index]
    return {
        "observation.images.top": np.stack([picture(32, 48, i, index) for i in range(length)]),
        "observation.images.wrist": np.stack([picture(31, 33, i, index) for i in range(length)]),
        "observation.state": draw.normal(size=(length, 4)).astype(np.float32),
        "action": draw.normal(size=(length, 3)).astype(np.float32),
        "next.reward": draw.random((length, 1)).astype(np.float32),
        "next.done": (np.arange(length) == length - 1)[:, None],
        "touch": draw.random((length, 2, 3)).astype(np.float32),
    }


def main(out: Path) -> None:
    import torchvision_stand_in  # noqa: F401

    try:
        from ledataset.datasets.lerobot_dataset import LeRobotDataset
    except ModuleNotFoundError:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset.create(
        "openwfm/fixture", fps=FPS, features=FEATURES, root=out, robot_type="toy", use_videos=True
    )
    v30 = hasattr(data, "finalize")
    for index in range(len(LENGTHS)):
        columns = episode(index)
        for i in range(LENGTHS[index]):
            frame = {key: value[i] for key, value in columns.items()}
            if v30:
                data.add_frame(frame | {"task": TASKS[index]})
            else:
                data.add_frame(frame, task=TASKS[index])
        data.save_episode()
    if v30:
        data.finalize()
    shutil.rmtree(out / "images", ignore_errors=True)  # the pictures are in the tables too


if __name__ == "__main__":
    main(Path(sys.argv[1]))
