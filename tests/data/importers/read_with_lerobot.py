"""Read a LeRobot dataset with the real package and write every frame of it to an npz.

``python read_with_lerobot.py FOLDER OUT.npz``: needs ``lerobot-dataset`` (``ledataset``, v3.0) or
``lerobot`` (0.3.3 for v2.1); the project's environment has neither. Run by
``test_lerobot_export.py`` where ``OPENWFM_LEROBOT_V30`` or ``_V21`` names an interpreter that does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(folder: Path, out: Path) -> None:
    import torchvision_stand_in  # noqa: F401

    try:
        from ledataset.datasets.lerobot_dataset import LeRobotDataset
    except ModuleNotFoundError:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset("openwfm/export", root=folder, video_backend="pyav")
    frames = [data[i] for i in range(len(data))]
    columns = {
        key: np.array([frame[key] if isinstance(frame[key], str) else frame[key].numpy()
                       for frame in frames])
        for key in frames[0]
    }  # fmt: skip
    stats = {f"stats/{k}/{n}": v for k, s in data.meta.stats.items() for n, v in s.items()}
    counts = {"num_episodes": data.num_episodes, "num_frames": data.num_frames, "fps": data.fps}
    np.savez(out, **columns, **stats, **counts, robot_type=data.meta.robot_type or "")  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
