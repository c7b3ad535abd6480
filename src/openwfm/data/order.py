"""The global order of samples: a pure function of (seed, step).

It does not depend on how many workers or processes read it, so a resumed run, or one on another
number of devices with the same global batch, sees the same samples at the same step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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


@lru_cache(maxsize=4)
def _bucket_plan(seed: int, epoch: int, turns: tuple[int, ...]) -> np.ndarray:
    return numpy_generator(seed, "buckets", epoch).permutation(
        np.repeat(np.arange(len(turns)), turns)
    )


class StepOrder(Sampler[list[tuple[int, int]]]):
    """Endless batches of (index, position): those of ``first_step``, ``first_step`` + 1, ..."""

    first_step: int

    def batch(self, step: int) -> list[tuple[int, int]]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.first_step
        while True:
            yield self.batch(step)
            step += 1


class BatchOrder(StepOrder):
    """One batch per rank and step.

    ``size`` is the number of samples, or that of each bucket: the samples of a bucket follow one
    another, and all samples of a step are of one bucket. Buckets take turns in proportion to their
    samples, in a new random order every epoch; each one goes through its samples in its own order,
    and one that is smaller than the global batch repeats them within a batch.
    """

    def __init__(
        self,
        *,
        size: int | Sequence[int],
        batch_size: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.sizes = (size,) if isinstance(size, int) else tuple(size)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("order: no samples; the shards hold no clip long enough for a window")
        self.batch_size, self.seed = batch_size, seed
        self.first_step, self.rank, self.num_ranks = first_step, rank, num_ranks
        self._turns = tuple(max(1, round(n / (batch_size * num_ranks))) for n in self.sizes)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """Positions count the samples of the run; they seed what is random about a sample."""
        bucket, turn = self._bucket(step)
        start, size = sum(self.sizes[:bucket]), self.sizes[bucket]
        place, position = self._first(turn), self._first(step)
        return [
            (start + sample_index(self.seed, place + i, size), position + i)
            for i in range(self.batch_size)
        ]

    def _first(self, step: int) -> int:
        return (step * self.num_ranks + self.rank) * self.batch_size

    def _bucket(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and how many steps it had before."""
        if len(self.sizes) == 1:
            return 0, step
        epoch, offset = divmod(step, sum(self._turns))
        plan = _bucket_plan(self.seed, epoch, self._turns)
        bucket = int(plan[offset])
        return bucket, epoch * self._turns[bucket] + int((plan[:offset] == bucket).sum())


class JointOrder(StepOrder):
    """Steps of images among steps of clips (arXiv 2501.03575, section 4.1): all ranks agree.

    Of any n steps ``ratio``·n are of images, rounded up or down; the seed says which. Indices of
    images follow those of clips.
    """

    def __init__(
        self, clips: BatchOrder, images: BatchOrder, *, ratio: float, first_step: int = 0
    ) -> None:
        self.clips, self.images = clips, images
        self.ratio, self.first_step = ratio, first_step
        self._phase = float(numpy_generator(clips.seed, "image steps").random())

    def image_steps(self, step: int) -> int:
        """How many of the steps before ``step`` are of images."""
        return math.floor(step * self.ratio + self._phase)

    def batch(self, step: int) -> list[tuple[int, int]]:
        before = self.image_steps(step)
        if self.image_steps(step + 1) == before:
            return self.clips.batch(step - before)
        start = sum(self.clips.sizes)
        return [(start + index, position) for index, position in self.images.batch(before)]


def equal_batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Row numbers in order, cut where the size changes and after ``batch_size`` rows."""
    batches: list[list[int]] = []
    for row, size in enumerate(sizes):
        if batches and sizes[batches[-1][0]] == size and len(batches[-1]) < batch_size:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


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
