"""Duplicates: shifted, trimmed and noisy copies are found; similar shots are not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.dedup import clip_distance, find_duplicates


def walk(seed: int, length: int = 60) -> np.ndarray:
    random = np.random.default_rng(seed)
    start = random.integers(40, 200, 64)
    return (
        (start + np.cumsum(random.normal(0, 3, (length, 64)), axis=0)).clip(0, 255).astype(np.uint8)
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), st.integers(0, 6), st.integers(0, 1000))
def test_trimmed_noisy_copies_are_found(head: int, tail: int, seed: int) -> None:
    original = walk(seed)
    noise = np.random.default_rng(seed).integers(0, 2, original.shape)
    copy = (original.astype(int) + noise).clip(0, 255).astype(np.uint8)[head : 60 - tail]
    assert find_duplicates([original, walk(seed + 1), copy], distance=1.0) == {2: 0}
    assert clip_distance(original, copy) == clip_distance(copy, original)


def test_same_place_other_motion_is_kept() -> None:
    """A ball that covers 3 of 64 cells, on the same background, moving elsewhere."""
    still = np.full((60, 8, 8), 120, np.uint8)
    one, other = still.copy(), still.copy()
    one[:, 2, 1:4] = 220
    other[:, 5, 4:7] = 220
    assert find_duplicates([one.reshape(60, 64), other.reshape(60, 64)], 1.0) == {}


def test_chain_refers_to_the_kept_clip() -> None:
    a = walk(1)
    assert find_duplicates([a, a.copy(), a.copy()], 1.0) == {1: 0, 2: 0}


def test_too_little_shared() -> None:
    a = walk(2)
    assert find_duplicates([a, a[:20]], 1.0) == {}


def test_nothing() -> None:
    assert find_duplicates([], 1.0) == {}
    assert find_duplicates([walk(0)], 1.0) == {}
