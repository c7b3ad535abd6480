"""Groups of duplicates against a plain reference, closed forms and planted copies."""

from __future__ import annotations

import numpy as np
import pytest

from openwfm.benchmarks.dedup import synthetic
from openwfm.curation.clusters import cluster
from openwfm.curation.semdedup import (
    find_duplicate_groups,
    near_pairs,
    preference,
    suggest_epsilon,
)


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def reference(vectors: np.ndarray, order: np.ndarray, epsilon: float) -> dict[int, int]:
    """Removed clip → leader, by the definition, one comparison at a time."""
    kept: list[int] = []
    removed = {}
    for clip in order.tolist():
        cosines = [(float(vectors[other] @ vectors[clip]), other) for other in kept]
        near = [(cosine, -kept.index(o), o) for cosine, o in cosines if cosine >= 1 - epsilon]
        if near:
            removed[clip] = max(near)[2]
        else:
            kept.append(clip)
    return removed


@pytest.mark.parametrize(
    "order, kept", [([0, 1, 2], [0, 2]), ([1, 0, 2], [1]), ([2, 1, 0], [0, 2]), ([0, 2, 1], [0, 2])]
)
def test_a_chain_keeps_one_of_each_true_group(order: list[int], kept: list[int]) -> None:
    """a~b~c, a≁c: 10 degrees are near, 20 are not."""
    epsilon = 1 - np.cos(np.radians(15))
    found = find_duplicate_groups(on_circle(0, 10, 20), np.array(order), epsilon=float(epsilon))
    assert np.flatnonzero(found.kept).tolist() == kept
    assert all(found.kept[found.leader])


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_the_definition_in_one_cluster(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, width = int(random.integers(2, 200)), int(random.integers(2, 9))
    vectors = random.standard_normal((count, width)).astype(np.float32)
    copied = random.random(count) < 0.3
    vectors[copied] = vectors[random.integers(count, size=copied.sum())]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order, epsilon = random.permutation(count), float(random.uniform(1e-3, 0.3))
    found = find_duplicate_groups(vectors, order, epsilon=epsilon, size=10_000)
    wanted = reference(vectors.astype(np.float64), order, epsilon)
    assert set(np.flatnonzero(~found.kept).tolist()) == set(wanted)
    assert found.similarity[~found.kept] == pytest.approx(
        [float(vectors[a] @ vectors[b]) for a, b in sorted(wanted.items())], abs=1e-5
    )
    groups = found.groups()
    assert sum(len(group) - 1 for group in groups) == len(wanted)
    assert all(found.kept[group[0]] and len(group) > 1 for group in groups)


def test_many_clusters_lose_hardly_a_pair_and_invent_none() -> None:
    vectors, films = synthetic(4000, seed=3, width=64)
    wanted = np.argwhere(np.triu(vectors @ vectors.T >= 0.95, 1))
    pairs = near_pairs(vectors, cluster(vectors, size=128, probes=4), 0.05)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(found) == len(pairs.first)
    assert found <= {tuple(pair) for pair in wanted.tolist()}
    assert len(found) >= 0.99 * len(wanted)
    order = np.lexsort((np.arange(4000), films != np.arange(4000)))
    removed = ~find_duplicate_groups(vectors, order, epsilon=0.05, size=128).kept
    assert removed[films != np.arange(4000)].mean() >= 0.99
    assert not removed[films == np.arange(4000)].any()


@pytest.mark.parametrize("count", [1, 2, 3, 500])
def test_every_vector_has_a_home_and_no_home_twice(count: int) -> None:
    vectors, _ = synthetic(max(count, 8), seed=1, width=16)
    clusters = cluster(vectors[:count], size=20, probes=4)
    homes = clusters.homes
    assert homes.shape == (count, 4) and (homes[:, 0] >= 0).all()
    assert homes.max() < clusters.count
    for row in homes:
        real = row[row >= 0]
        assert len(set(real.tolist())) == len(real)


def test_results_repeat_bit_for_bit() -> None:
    vectors, _ = synthetic(1500, seed=5, width=32)
    first, second = (
        find_duplicate_groups(vectors, np.arange(1500), epsilon=0.05, size=64) for _ in range(2)
    )
    assert np.array_equal(first.leader, second.leader)
    assert first.similarity.tobytes() == second.similarity.tobytes()


@pytest.mark.parametrize("target", [0.0, 0.1, 0.25])
def test_a_target_fraction_is_met_from_below(target: float) -> None:
    vectors, _ = synthetic(1000, seed=2, width=64)
    found = find_duplicate_groups(vectors, np.arange(1000), target_fraction=target)
    assert target - 0.02 <= (~found.kept).mean() <= target + 1e-9


def test_verification_can_deny_and_is_asked_about_kept_clips_only() -> None:
    asked = []

    def verify(original: int, clip: int) -> bool:
        asked.append((original, clip))
        return (original, clip) != (0, 1)

    found = find_duplicate_groups(on_circle(0, 1, 2, 90), np.arange(4), epsilon=0.1, verify=verify)
    assert found.leader.tolist() == [0, 1, 1, 3]  # 2 is nearer to 1, which was kept
    assert asked == [(0, 1), (1, 2)]


def test_the_suggested_epsilon_parts_copies_from_the_rest() -> None:
    vectors, films = synthetic(3000, seed=4, width=64)
    epsilon = suggest_epsilon(vectors).epsilon
    order = np.lexsort((np.arange(3000), films != np.arange(3000)))
    removed = ~find_duplicate_groups(vectors, order, epsilon=epsilon).kept
    copies = films != np.arange(3000)
    assert removed[copies].mean() > 0.97 and removed[~copies].mean() < 0.03


def test_preference_sorts_as_tuples_do() -> None:
    keys = np.random.default_rng(0).integers(0, 3, (50, 3))
    wanted = sorted(range(50), key=lambda i: [-k for k in keys[i].tolist()])
    assert preference(keys.astype(float)).tolist() == wanted


def test_nothing_and_one() -> None:
    none = find_duplicate_groups(np.zeros((0, 4), np.float32), np.zeros(0, int), epsilon=0.1)
    assert none.groups() == [] and len(none.kept) == 0
    assert find_duplicate_groups(on_circle(3), np.arange(1), target_fraction=0.5).kept.all()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epsilon": -0.1}, "dedup.epsilon=-0.1"),
        ({"epsilon": 0.7}, "dedup.epsilon=0.7"),
        ({"epsilon": float("nan")}, "dedup.epsilon=nan"),
        ({}, "exactly one"),
        ({"epsilon": 0.1, "target_fraction": 0.1}, "exactly one"),
        ({"target_fraction": 1.0}, "dedup.target_fraction=1.0"),
        ({"epsilon": 0.1, "order": np.array([0, 0, 1])}, "order"),
        ({"epsilon": 0.1, "order": np.arange(2)}, "order"),
        ({"epsilon": 0.1, "embeddings": 2 * on_circle(0, 1, 2)}, r"embeddings\[0\]"),
        ({"epsilon": 0.1, "embeddings": np.full((3, 2), np.nan, np.float32)}, r"embeddings\[0\]"),
    ],
)
def test_bad_values_are_named(change: dict, words: str) -> None:
    given = {"embeddings": on_circle(0, 1, 2), "order": np.arange(3)} | change
    with pytest.raises(ValueError, match=words):
        find_duplicate_groups(given.pop("embeddings"), given.pop("order"), **given)
