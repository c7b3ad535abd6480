"""As much of torchvision as the lerobot packages use, where the real one is missing.

No torchvision of the package index imports beside torch 2.13 for the CPU, and the newest no longer
have the ``VideoReader`` that lerobot's ``pyav`` backend calls. Importing this file puts a stand-in
over PyAV into ``sys.modules``; everything else that runs is the lerobot package's own.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import av
import numpy as np
import torch


class ToTensor:
    """A PIL image as ``c h w`` in [0, 1]."""

    def __call__(self, image: object) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(image))
        return pixels.permute(2, 0, 1).float().div(255)


class VideoReader:
    """Frames from the key frame before the time that was sought."""

    def __init__(self, path: str, stream: str) -> None:
        self.container = av.open(path)
        self._start = 0.0

    def seek(self, seconds: float, keyframes_only: bool = False) -> VideoReader:
        self.container.seek(int(seconds * 1_000_000), any_frame=False, backward=True)
        return self

    def __iter__(self) -> Iterator[dict[str, object]]:
        for frame in self.container.decode(video=0):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            yield {"data": pixels, "pts": frame.time}


def install() -> None:
    vision, io = types.ModuleType("torchvision"), types.ModuleType("torchvision.io")
    transforms = types.ModuleType("torchvision.transforms")
    transforms.ToTensor = ToTensor  # type: ignore[attr-defined]
    io.VideoReader = VideoReader  # type: ignore[attr-defined]
    vision.io, vision.transforms = io, transforms  # type: ignore[attr-defined]
    vision.set_video_backend = lambda name: None  # type: ignore[attr-defined]
    for module in (vision, io, transforms):
        module.__spec__ = ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module


try:
    import torchvision.io

    torchvision.io.VideoReader  # noqa: B018
except (ImportError, RuntimeError, AttributeError):
    install()
