"""Peak memory of a sampling run: every measurement in a process of its own."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

from openwfm.benchmarks.diffusion_peer import GUIDANCE, Shape, network, ours, run_inputs, theirs
from openwfm.benchmarks.tokenizer_memory import Peak, apart
from openwfm.diffusion import DiTConfig
from openwfm.diffusion.config import SamplerConfig
from openwfm.interop.diffusers import to_diffusers

STEPS = 3  # the peak is that of a longer run, but for modulations: a few MiB


def peak_of_sampling(config: DiTConfig, shape: Shape) -> dict[str, Any]:
    """MiB that a guided run takes beyond its weights, in our network and in diffusers'."""
    mine, peer = (apart(sample_once, config, shape, who) for who in (False, True))
    row = {"latents": "x".join(map(str, shape)), "ours_mib": mine, "theirs_mib": peer}
    return {**row, "ratio": peer / mine}


def sample_once(config: DiTConfig, shape: Shape, peer: bool) -> float:
    """In this process. Another network runs before, for what libraries set up once; the copy of the
    weights that ours packs for oneDNN is counted.
    """
    run: Any = theirs if peer else ours
    other, net = (_network(config, peer) for _ in range(2))
    sampler = SamplerConfig(num_steps=STEPS, guidance=GUIDANCE)
    run(other, sampler, run_inputs(config, (shape[0], 1, 2, 2), (41, 512), 0))
    inputs = run_inputs(config, shape, (41, 512), 0)
    del other
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free already would be used uncounted
    memory = Peak()
    run(net, sampler, inputs)
    return memory.mib()


def _network(config: DiTConfig, peer: bool) -> Any:
    net = network(config, 0)
    return to_diffusers(net) if peer else net
