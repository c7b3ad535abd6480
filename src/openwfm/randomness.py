"""Randomness as a pure function of (seed, purpose, position): no hidden global generator.

A training step, a sample window or a sampler draws from a generator that is derived from what it
is for, so the result does not depend on how many workers or processes there are, nor on whether
the run was resumed.
"""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *position: int) -> int:
    """A 63-bit seed from the run's seed, a purpose and a position (for instance step and rank)."""
    text = f"{seed}/{purpose}/" + "/".join(str(int(part)) for part in position)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(
    seed: int, purpose: str, *position: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    generator = torch.Generator(device=device)
    generator.manual_seed(derive_seed(seed, purpose, *position))
    return generator


def numpy_generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, purpose, *position))


def fingerprint(keys: tuple[str, ...]) -> int:
    """A number for the clips of a batch, to tell micro-batches of one step apart."""
    return zlib.crc32("\n".join(keys).encode())
