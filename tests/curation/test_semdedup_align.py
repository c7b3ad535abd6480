"""Thumbnails of one film agree through changes of light and time; those of two do not."""

from __future__ import annotations

import numpy as np
import pytest

from openwfm.curation.align import align, copy_vector
from openwfm.curation.semdedup import find_copies


def film(seed: int, frames: int = 60, *, background: int = 0, speed: float = 1.0) -> np.ndarray:
    """A textured 8×8 ground (of ``background``) on which a spot wanders as ``seed`` says."""
    ground = np.random.default_rng(1000 + background).uniform(40, 200, 64)
    random = np.random.default_rng(seed)
    path = 3.5 + np.cumsum(random.normal(0, 0.35 * speed, (frames, 2)), axis=0)
    y, x = np.divmod(np.arange(64), 8)
    spot = np.exp(-((y - path[:, :1] % 7) ** 2 + (x - path[:, 1:] % 7) ** 2) / 2)
    return np.clip(ground + 50 * spot, 0, 255).astype(np.uint8)


def noisy(signature: np.ndarray, seed: int, level: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, level, signature.shape)
    return np.clip(np.rint(signature + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_noise_brightness_and_contrast_do_not_matter(seed: int) -> None:
    original = film(seed)
    random = np.random.default_rng(seed)
    changed = np.clip(original * random.uniform(0.6, 1.1) + random.uniform(-10, 20), 0, 255)
    assert align(original, noisy(changed, seed)).same


@pytest.mark.parametrize("cut", [1, 5, 14])
def test_a_trimmed_copy_is_found_at_its_shift(cut: int) -> None:
    original = film(3)
    found = align(original, noisy(original[cut:], 0))
    assert found.same and found.shift == cut
    assert align(original[cut:], original).shift == -cut


def test_too_little_shared_is_another_clip() -> None:
    original = film(3)
    assert not align(original, original[:40]).same  # 2/3
    assert align(original, original[:45]).same  # 3/4


@pytest.mark.parametrize("seed", range(8))
def test_two_takes_of_one_scene_are_two_clips(seed: int) -> None:
    first, second = film(seed), film(seed + 100)
    found = align(first, second)
    assert found.pattern > 0.9 and not found.same


def test_another_place_is_another_clip() -> None:
    assert not align(film(1, background=1), film(1, background=2)).same


def test_still_clips_are_compared_by_their_picture() -> None:
    still = np.repeat(film(0)[:1], 30, axis=0)
    other = np.repeat(film(0, background=5)[:1], 30, axis=0)
    assert align(still, noisy(still, 1, 0.4)).same
    assert not align(still, other).same
    assert not align(still, film(0, 30)).same  # the same place, but something moves


def test_flat_clips_are_compared_by_their_level() -> None:
    black, grey = (np.full((20, 64), level, np.uint8) for level in (3, 120))
    assert align(black, black + 2).same
    assert not align(black, grey).same
    assert not align(black, film(0, 20)).same


def test_a_mirrored_clip_is_another_unless_asked() -> None:
    original = film(4)
    flipped = original.reshape(-1, 8, 8)[:, :, ::-1].reshape(original.shape)
    assert not align(original, flipped).same
    assert align(original, flipped, mirrored=True).same
    assert not align(original, film(5, background=3), mirrored=True).same


def test_single_frames_and_fuzz_never_fail() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        a, b = (
            random.integers(0, 256, (int(random.integers(1, 40)), 64)).astype(np.uint8)
            for _ in range(2)
        )
        found = align(a, b)
        assert -1 <= found.pattern <= 1 and -1 <= found.motion <= 1
        assert align(a, a).pattern == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_copies_share_a_vector_and_other_places_do_not(seed: int) -> None:
    original = film(seed, background=seed)
    random = np.random.default_rng(seed)
    light = np.clip(original * random.uniform(0.7, 1.1) + random.uniform(-10, 20), 0, 255)
    other = film(seed, background=seed + 50)
    vector = copy_vector(original)
    assert vector.shape == (130,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert vector @ copy_vector(noisy(light, seed)) > 0.95
    assert vector @ copy_vector(original[6:]) > 0.95
    assert vector @ copy_vector(other) < 0.9


def test_flat_still_clips_agree_and_copies_are_found() -> None:
    flat = [np.full((9, 64), level, np.uint8) for level in (0, 255)]
    assert copy_vector(flat[0]) @ copy_vector(flat[1]) == pytest.approx(1, abs=1e-6)
    films = [film(seed, background=seed % 4) for seed in range(12)]
    clips = [*films, *(noisy(item, 7) for item in films), *flat]
    found = find_copies(clips, np.arange(len(clips)))
    assert found.leader.tolist() == [*range(12), *range(12), 24, 25]
    assert find_copies([], np.arange(0)).groups() == []
