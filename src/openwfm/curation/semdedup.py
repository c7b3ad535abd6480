"""Semantic deduplication: which clips repeat which, over all clips of all sources.

Pairs are looked for within clusters and the neighbouring ones of each clip (SemDeDup, arXiv
2303.09540; arXiv 2501.03575, section 3.5). Clips are then taken in order of preference, and one is
removed only if it is near a clip that is *kept*: in a chain a~b~c with a≁c that starts with a, b
goes and c stays. (The released tool compares with removed clips too, so that both would go.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from openwfm.curation.align import align, copy_vector
from openwfm.curation.clusters import Clusters, cluster

SIZE = 256
PROBES = 6
MAX_PAIRS = 200_000_000  # 12 bytes each
MAX_EPSILON = 0.5
COPY_EPSILON = 0.05
Verify = Callable[[int, int], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """``first`` < ``second``: positions of clips; ``similarity``: their cosine."""

    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    similarity: Float[np.ndarray, " p"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """``leader``: for each clip the kept clip that it repeats, itself if kept.

    ``similarity`` is the cosine to the leader (1 for kept clips); ``epsilon`` what was used.
    """

    leader: Int[np.ndarray, " n"]
    similarity: Float[np.ndarray, " n"]
    epsilon: float

    @property
    def kept(self) -> Bool[np.ndarray, " n"]:
        return self.leader == np.arange(len(self.leader))

    def groups(self) -> list[list[int]]:
        """Groups of two and more, each with its kept clip first, then by position."""
        members: dict[int, list[int]] = {}
        for position in np.flatnonzero(~self.kept).tolist():
            members.setdefault(int(self.leader[position]), []).append(position)
        return [[leader, *rest] for leader, rest in sorted(members.items())]


def find_duplicate_groups(
    embeddings: Float[np.ndarray, "n d"],
    order: Int[np.ndarray, " n"],
    *,
    epsilon: float | None = None,
    target_fraction: float | None = None,
    verify: Verify | None = None,
    size: int = SIZE,
    probes: int = PROBES,
    seed: int = 0,
) -> Duplicates:
    """Duplicates among unit vectors; two are near when their cosine is at least 1 - ``epsilon``.

    ``order`` lists positions, best clip first (see `preference`). Instead of ``epsilon`` the
    ``target_fraction`` of clips to remove may be given (0 to 1, reached as nearly as epsilons up
    to 0.5 allow, before ``verify``). ``verify(i, j)`` may deny that two near clips are one.

    Raises ValueError when both or neither of the two are given or out of range, when vectors are
    not of unit length or ``order`` is no permutation, or when more than 2·10⁸ pairs are near.
    """
    order = _checked(embeddings, order, epsilon, target_fraction)
    if not len(embeddings):
        return Duplicates(leader=order, similarity=np.zeros(0, np.float32), epsilon=epsilon or 0.0)
    vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
    clusters = cluster(vectors, size=size, probes=probes, seed=seed)
    if epsilon is None:
        assert target_fraction is not None
        epsilon = epsilon_for(vectors, clusters, order, target_fraction)
    pairs = near_pairs(vectors, clusters, epsilon)
    leader, similarity = cover(pairs, order, verify)
    return Duplicates(leader=leader, similarity=similarity, epsilon=epsilon)


def find_copies(
    signatures: Sequence[UInt8[np.ndarray, "t n"]],
    order: Int[np.ndarray, " n"],
    *,
    epsilon: float = COPY_EPSILON,
) -> Duplicates:
    """Copies of one film (another encoding, size, light or trim), each pair aligned and confirmed.

    Candidates are near in `copy_vector`; embeddings of pictures move more under coding than they
    differ between two takes. A mirrored clip is another clip: left and right mean something.
    """
    vectors = [copy_vector(thumbnails) for thumbnails in signatures]
    return find_duplicate_groups(
        np.stack(vectors) if vectors else np.zeros((0, 1), np.float32),
        order,
        epsilon=epsilon,
        verify=lambda a, b: align(signatures[a], signatures[b]).same,
    )


def _checked(
    embeddings: np.ndarray, order: np.ndarray, epsilon: float | None, target: float | None
) -> Int[np.ndarray, " n"]:
    if (epsilon is None) == (target is None):
        raise ValueError(
            f"dedup.epsilon={epsilon}, dedup.target_fraction={target}: exactly one must be given"
        )
    if epsilon is not None and not 0 <= epsilon <= MAX_EPSILON:
        raise ValueError(f"dedup.epsilon={epsilon}: must be in [0, {MAX_EPSILON}]")
    if target is not None and not 0 <= target < 1:
        raise ValueError(f"dedup.target_fraction={target}: must be in [0, 1)")
    order = np.asarray(order, dtype=np.int64)
    if embeddings.ndim != 2 or order.shape != (len(embeddings),):
        raise ValueError(
            f"embeddings {embeddings.shape}, order {order.shape}: must be (n, d) and (n,)"
        )
    if not np.array_equal(np.sort(order), np.arange(len(order))):
        raise ValueError("order: must list every position once")
    for start in range(0, len(embeddings), 65536):
        length = np.linalg.norm(embeddings[start : start + 65536], axis=1)
        if not np.all(np.abs(length - 1) < 1e-3):  # also catches NaN
            row = start + int(np.argmin(np.abs(length - 1) < 1e-3))
            raise ValueError(f"embeddings[{row}]: must have length 1")
    return order


def preference(keys: Float[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
    """Positions with the best first: larger is better, the first column decides, then the next.

    For instance (pixels, bits a second, quality). Equal clips stay in their order.
    """
    return np.lexsort(-np.asarray(keys, dtype=np.float64).T[::-1])


def tiles(
    vectors: Float[np.ndarray, "n d"], clusters: Clusters
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(visitors, members, their cosines), a cluster at a time, in tiles of at most 4096 visitors.

    A cluster's members are visited by themselves and by the clips that have it among their homes.
    """
    homes = clusters.homes
    flat = homes.ravel()
    by_home = np.argsort(flat, kind="stable")
    ends = np.searchsorted(flat[by_home], np.arange(clusters.count + 1))
    for home in range(clusters.count):
        entries = by_home[ends[home] : ends[home + 1]]
        visitors, rank = entries // homes.shape[1], entries % homes.shape[1]
        members = visitors[rank == 0]
        if not len(members):
            continue
        columns = vectors[members].T
        for start in range(0, len(visitors), 4096):
            rows = visitors[start : start + 4096]
            yield rows, members, vectors[rows] @ columns


def near_pairs(vectors: Float[np.ndarray, "n d"], clusters: Clusters, epsilon: float) -> Pairs:
    """Every pair found with cosine of at least 1 - epsilon (less a rounding of 1e-6), once."""
    least = 1.0 - epsilon - 1e-6
    keys, values, total, count = [], [], 0, len(vectors)
    for rows, members, cosines in tiles(vectors, clusters):
        at, to = np.nonzero(cosines >= least)
        a, b = rows[at], members[to]
        other = a != b
        low, high = np.minimum(a, b)[other], np.maximum(a, b)[other]
        keys.append(low.astype(np.int64) * count + high)
        values.append(cosines[at, to][other])
        total += len(low)
        if total > MAX_PAIRS:
            raise ValueError(
                f"dedup.epsilon={epsilon}: more than {MAX_PAIRS} near pairs; lower it, or reject "
                "the clips that are all alike first (black, frozen)"
            )
    found, first = np.unique(np.concatenate(keys), return_index=True)
    similarity = np.concatenate(values)[first].astype(np.float32)
    return Pairs(first=found // count, second=found % count, similarity=similarity)


def cover(
    pairs: Pairs, order: Int[np.ndarray, " n"], verify: Verify | None = None
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Leader of each clip and the cosine to it: greedy, in ``order``.

    A clip joins the nearest *kept* clip among its near ones (and that ``verify`` confirms); with
    none it is kept. Equal cosines go to the clip that comes first in order.
    """
    count = len(order)
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    earlier = rank[pairs.first] < rank[pairs.second]
    better = np.where(earlier, pairs.first, pairs.second)
    worse = np.where(earlier, pairs.second, pairs.first)
    # By the worse clip's turn, then nearest first, then best first.
    arranged = np.lexsort((rank[better], -pairs.similarity, rank[worse]))
    better, worse = better[arranged], worse[arranged]
    cosines = pairs.similarity[arranged]
    starts = np.flatnonzero(np.diff(worse, prepend=-1))
    ends = np.append(starts, len(worse))[1:]
    leader, similarity = np.arange(count), np.ones(count, dtype=np.float32)
    kept = np.ones(count, dtype=bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        clip = int(worse[start])
        for at in (start + np.flatnonzero(kept[better[start:end]])).tolist():
            original = int(better[at])
            if verify is None or verify(original, clip):
                leader[clip], similarity[clip], kept[clip] = original, cosines[at], False
                break
    return leader, similarity


def nearest_better(
    vectors: Float[np.ndarray, "n d"], clusters: Clusters, order: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """For each clip its largest cosine with a clip that comes earlier in ``order`` (-1: none)."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    best = np.full(len(order), -1.0, dtype=np.float32)
    for rows, members, cosines in tiles(vectors, clusters):
        before = rank[members][None] < rank[rows][:, None]
        for ids, values in (
            (rows, np.where(before, cosines, -1).max(axis=1)),
            (members, np.where(before | (rows[:, None] == members), -1, cosines).max(axis=0)),
        ):
            best[ids] = np.maximum(best[ids], values)
    return best


def epsilon_for(
    vectors: Float[np.ndarray, "n d"],
    clusters: Clusters,
    order: Int[np.ndarray, " n"],
    target_fraction: float,
) -> float:
    """The epsilon within which ``target_fraction`` of the clips have a better one (at most 0.5).

    The cover removes at most that share: less where a clip's better ones are removed themselves.
    """
    wanted = round(target_fraction * len(order))
    if not wanted:
        return 0.0
    distances = np.sort(1.0 - nearest_better(vectors, clusters, order))
    return float(min(max(distances[wanted - 1], 0.0), MAX_EPSILON))


@dataclass(frozen=True, kw_only=True, eq=False)
class Suggestion:
    """``epsilon`` in the emptiest place of the histogram of log10 distances to the nearest clip."""

    epsilon: float
    counts: Int[np.ndarray, " bins"]
    edges: Float[np.ndarray, " edges"]


def suggest_epsilon(
    embeddings: Float[np.ndarray, "n d"], *, size: int = SIZE, probes: int = PROBES, seed: int = 0
) -> Suggestion:
    """Between the duplicates' distances, near 0, and the bulk's: the middle of the longest run of
    the lowest smoothed counts between the smallest distance and the bulk's peak (the highest above
    a distance of 0.02). Without duplicates it lies at the bulk's foot and removes next to nothing.

    Raises ValueError for less than 2 embeddings.
    """
    if len(embeddings) < 2:
        raise ValueError(f"{len(embeddings)} embeddings: need at least 2 for a histogram")
    vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
    clusters = cluster(vectors, size=size, probes=probes, seed=seed)
    order = np.arange(len(vectors))
    best = np.maximum(
        nearest_better(vectors, clusters, order), nearest_better(vectors, clusters, order[::-1])
    )
    edges = np.linspace(-6, 0.4, 65)
    counts, _ = np.histogram(np.log10(np.clip(1.0 - best, 1e-6, 2.0)), bins=edges)
    smooth = np.convolve(counts, np.ones(5) / 5, mode="same")
    first = int(np.searchsorted(edges, np.log10(0.02)))
    peak = first + int(np.argmax(smooth[first:]))
    left = min(int(np.argmax(counts > 0)), peak)
    low = left + np.flatnonzero(smooth[left : peak + 1] <= smooth[left : peak + 1].min() + 1e-9)
    runs = np.split(low, np.flatnonzero(np.diff(low) > 1) + 1)
    longest = max(runs, key=len)
    middle = edges[longest[0]] + edges[longest[-1] + 1]
    return Suggestion(
        epsilon=float(min(10 ** (middle / 2), MAX_EPSILON)), counts=counts, edges=edges
    )
