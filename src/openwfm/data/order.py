"""The global order of samples: a pure function of (seed, step).

It does not depend on how many workers or processes read it, so a resumed run, or one on another
number of devices with the same global batch, sees the same samples at the same step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from openwfm.randomness import derive_seed, numpy_generator

SPLITS = ("train", "val", "test")


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return numpy_generator(seed, "order", epoch).permutation(size)


def sample_index(seed: int, position: int, size: int) -> int:
    """Index of the ``position``-th sample (counted from the run's first) among ``size``.

    Every ``size`` consecutive positions from a multiple of ``size`` visit each sample once.
    """
    if size < 1:
        raise ValueError(f"size={size}: an order needs at least one sample")
    epoch, offset = divmod(position, size)
    return int(_permutation(seed, epoch, size)[offset])


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """Endless batches of (index, position), beginning at ``first_step``; one per rank and step."""

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if size < 1:
            raise ValueError("order: no samples; the shards hold no clip long enough for a window")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.first_step, self.rank, self.num_ranks = first_step, rank, num_ranks

    def batch(self, step: int) -> list[tuple[int, int]]:
        start = (step * self.num_ranks + self.rank) * self.batch_size
        positions = range(start, start + self.batch_size)
        return [(sample_index(self.seed, p, self.size), p) for p in positions]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.first_step
        while True:
            yield self.batch(step)
            step += 1


def split_sources(
    kinds: Mapping[str, str], fractions: tuple[float, ...], seed: int
) -> dict[str, str]:
    """Source id → ``train``, ``val`` or ``test``; clips of one source never part.

    Within each kind of source (simulated, natural) the ids are ranked by a hash, so the split
    depends on the set of sources and the seed only. A split whose fraction is positive gets at
    least one source where the kind has three or more.
    """
    assigned: dict[str, str] = {}
    for kind in sorted(set(kinds.values())):
        members = [source for source, own in kinds.items() if own == kind]
        members.sort(key=lambda source: derive_seed(seed, f"split/{source}"))
        enough = len(members) >= 3
        held_out = [round(fraction * len(members)) for fraction in fractions[1:]]
        counts = [
            max(count, 1) if fraction > 0 and enough else count
            for count, fraction in zip(held_out, fractions[1:], strict=True)
        ]
        for name, count in zip(SPLITS[1:], counts, strict=True):
            for source in members[:count]:
                assigned[source] = name
            members = members[count:]
        assigned.update(dict.fromkeys(members, "train"))
    return assigned
