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
    single: Float[np.ndarray, " t"],
    many: Float[np.ndarray, " t"],
    threshold: float,
    margin: float,
    judged: tuple[int, int] | None = None,
) -> bool:
    """Whether errors of up to ``margin`` in the logits of the frames ``judged`` (start and end; all
    by default) could change a transition, if other doubtful frames are corrected as well.

    That is so when one of these frames is as near to the threshold as that; when it may be the peak
    of a transition and another frame too (peaks within twice the margin); or when the transition
    leaves what is known: a peak beyond may be as high. Where ``judged`` begins or ends with the
    arrays, so does the video.
    """
    low, high = (0, len(single)) if judged is None else judged
    first, second, level = logit(single), logit(many), float(logit(np.array(threshold)))
    for logits in (first, second):
        if np.abs(logits[low:high] - level).min(initial=np.inf) <= margin:
            return True
    # Frames outside may be corrected later: transitions as long as they could become.
    for start, end in runs((first >= level - margin) | (second >= level - margin)):
        peak = first[start:end].max()
        if start >= high or end <= low or peak < level - margin:
            continue
        if (start == 0 < low) or (end == len(single) > high):
            return True
        rivals = start + np.flatnonzero(first[start:end] >= peak - 2 * margin)
        if len(rivals) > 1 and ((rivals >= low) & (rivals < high)).any():
            return True
    return False


def logit(probability: np.ndarray) -> np.ndarray:
    """In double precision, up to where fp32 still tells probabilities from 0 and 1."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)
