"""Clusters of bounded size over unit vectors, in two levels, so that cost per vector hardly grows.

Flat k-means with k = √n costs n·√n; clusters of a few hundred vectors, found inside coarse cells,
cost n·(coarse + fine) with coarse and fine near √(n / size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.randomness import numpy_generator

SAMPLE_PER_CENTRE = 64
ROUNDS = 8
CHUNK = 16384


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """``homes``: for each vector its cluster and then the next likeliest ones (-1: none).

    A vector belongs to its first home; its near duplicates belong to one of its homes.
    """

    homes: Int[np.ndarray, "n probes"]
    count: int


def cluster(
    vectors: Float[np.ndarray, "n d"], *, size: int, probes: int, seed: int = 0
) -> Clusters:
    """About n / ``size`` clusters; every vector with its ``probes`` nearest ones.

    The same vectors and seed give the same clusters on the same machine with any thread count
    that sums in the same order; duplicates found through them depend on ties at borders only.
    """
    data = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
    fine = max(1, round(len(vectors) / size))
    coarse = max(1, round(np.sqrt(fine)))
    cells = _centres(data, coarse, numpy_generator(seed, "dedup/coarse"))
    near = _nearest(data, cells, min(probes, coarse))
    owner = near[:, 0]
    centres, parents = [], []
    for cell in range(coarse):
        members = torch.nonzero(owner == cell).ravel()
        if not len(members):
            continue
        wanted = max(1, round(len(members) / size))
        random = numpy_generator(seed, "dedup/fine", cell)
        found = _centres(data[members], wanted, random)
        centres.append(found)
        parents += [cell] * len(found)
    return _homes(data, torch.cat(centres), torch.tensor(parents), near, probes)


def _homes(data: Tensor, centres: Tensor, parents: Tensor, near: Tensor, probes: int) -> Clusters:
    """The ``probes`` nearest centres among those of each vector's nearest coarse cells."""
    homes = torch.full((len(data), probes), -1, dtype=torch.int32)
    best = torch.full((len(data), probes), -2.0)
    for cell in torch.unique(parents).tolist():
        own = torch.nonzero(parents == cell).ravel()
        visitors = torch.nonzero((near == cell).any(dim=1)).ravel()
        for rows in visitors.split(CHUNK):
            count = min(probes, len(own))
            value, at = (data[rows] @ centres[own].T).topk(count, dim=1)
            values = torch.cat([best[rows], value], dim=1)
            names = torch.cat([homes[rows], own[at].int()], dim=1)
            best[rows], order = values.topk(probes, dim=1)
            homes[rows] = names.gather(1, order)
    return Clusters(homes=homes.numpy(), count=len(centres))


def _centres(data: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """Spherical k-means on a sample (at most 64 a centre) from random starts; unit rows.

    A centre that loses all its vectors stays where it was.
    """
    size = min(len(data), count * SAMPLE_PER_CENTRE)
    sample = data[torch.from_numpy(random.permutation(len(data))[:size])]
    centres = sample[:count].clone()
    for _ in range(ROUNDS if count > 1 else 1):
        owner = _nearest(sample, centres, 1)[:, 0]
        sums = torch.zeros_like(centres).index_add_(0, owner, sample)
        length = sums.norm(dim=1, keepdim=True)
        centres = torch.where(length > 1e-6, sums / length.clamp_min(1e-6), centres)
    return centres


def _nearest(data: Tensor, centres: Tensor, count: int) -> Tensor:
    """Indices ``n count`` of the nearest centres, nearest first."""
    return torch.cat([(rows @ centres.T).topk(count, dim=1).indices for rows in data.split(CHUNK)])
