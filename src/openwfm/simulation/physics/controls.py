"""Clips that no world shows: played backwards, held still, or in random order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from openwfm.simulation.worlds import WorldClip

PER_CLIP = ("names", "masses", "contacts")
SPEEDS = ("linear_velocities", "angular_velocities")
PREFIXES = {
    "reversed": "Played backwards: ",
    "frozen": "A still picture of the first moment of this: ",
    "shuffled": "With the frames in random order: ",
}


def apply_control(clip: WorldClip, control: str, rng: np.random.Generator) -> WorldClip:
    """The clip with frames, state and masks in another order; the order is in ``state`` as
    ``source_frames`` and in the caption in words.

    Speeds are those of what is shown: turned round when reversed, zero (with the kinetic energy)
    when frozen. A shuffled film has none, and keeps those of its source frames. A contact lies
    between its frame and the next; when reversed, between its frame and the one before.
    """
    if control == "none":
        return clip
    order = frame_order(control, clip.num_frames, rng)
    text = PREFIXES[control]
    return replace(
        clip,
        views={view: video[order] for view, video in clip.views.items()},
        masks={view: mask[order] for view, mask in clip.masks.items()},
        captions={view: text + told[0].lower() + told[1:] for view, told in clip.captions.items()},
        state=_reordered(clip.state, order, control),
        tags=(*clip.tags, f"control:{control}"),
        facts={**clip.facts, "control": control},
    )


def frame_order(control: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The source frame of every frame."""
    if control == "reversed":
        return np.arange(num_frames)[::-1]
    if control == "frozen":
        return np.zeros(num_frames, int)
    order = rng.permutation(num_frames)
    while (order == np.arange(num_frames)).all():
        order = rng.permutation(num_frames)
    return order


def _reordered(
    state: Mapping[str, np.ndarray], order: np.ndarray, control: str
) -> dict[str, np.ndarray]:
    changed = {key: value if key in PER_CLIP else value[order] for key, value in state.items()}
    contacts = state["contacts"]
    shown = [(at, *row[1:]) for at, source in enumerate(order) for row in contacts
             if row[0] == source]  # fmt: skip
    changed["contacts"] = np.array(shown, contacts.dtype).reshape(-1, 3)
    changed["source_frames"] = order.astype(np.int32)
    factor = {"reversed": -1.0, "frozen": 0.0}.get(control, 1.0)
    for key in SPEEDS:
        changed[key] = np.float32(factor) * changed[key]
    changed["kinetic_energy"] = np.float32(factor**2) * changed["kinetic_energy"]
    return changed
