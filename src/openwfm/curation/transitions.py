"""From probabilities of frames to transitions and shots, and how sure a decision is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from openwfm.curation.record import Transition


def find_transitions(single: np.ndarray, many: np.ndarray, threshold: float) -> list[Transition]:
    """Transitions from per-frame probabilities.

    A run of ``single`` above the threshold is a transition; it reaches as far as the run of
    ``many`` that overlaps it, so a dissolve's mixed frames belong to neither shot.
    """
    wide = runs((many > threshold) | (single > threshold))
    found = []
    for start, end in wide:
        peak = start + int(np.argmax(single[start:end]))
        if single[peak] > threshold:
            found.append(
                Transition(
                    start=start, end=end, cut=peak + 1, probability=round(float(single[peak]), 4)
                )
            )
    return found


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Start and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def shots_between(transitions: list[Transition], num_frames: int) -> list[tuple[int, int]]:
    """The frames that no transition holds, as start and end (exclusive)."""
    inside = np.ones(num_frames, dtype=bool)
    for transition in transitions:
        inside[transition.start : transition.end] = False
    return runs(inside)


def is_doubtful(
    single: Float[np.ndarray, " t"], many: Float[np.ndarray, " t"], threshold: float, margin: float
) -> bool:
    """Whether errors of up to ``margin`` in the logits could change a transition.

    That is so when a probability is as near to the threshold as that, or when a transition's two
    highest peaks are within twice that of each other, or it reaches the first or last frame: a
    peak beyond may be as high.
    """
    first, second = logit(single), logit(many)
    if min(_nearest(first, threshold), _nearest(second, threshold)) <= margin:
        return True
    for start, end in runs((many > threshold) | (single > threshold)):
        *_, runner_up, peak = [-np.inf, *np.sort(first[start:end])]
        is_open = start == 0 or end == len(single)
        if single[start:end].max() > threshold and (is_open or peak - runner_up <= 2 * margin):
            return True
    return False


def _nearest(logits: np.ndarray, threshold: float) -> float:
    return float(np.abs(logits - logit(np.array(threshold))).min(initial=np.inf))


def logit(probability: np.ndarray) -> np.ndarray:
    """In double precision, up to where fp32 still tells probabilities from 0 and 1."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)
