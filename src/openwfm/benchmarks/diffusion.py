"""``openwfm bench diffusion``: sampling beside diffusers' ``CosmosTransformer3DModel``, training.

Both networks have the same weights and start from the same noise, in one process and by turns; a
run is what the release's pipeline does: every step calls the network with the text and without, and
the text is encoded before. Floating-point operations are counted by formula, for what each needs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from openwfm.benchmarks.diffusion_approximate import approximate
from openwfm.benchmarks.diffusion_memory import peak_of_sampling
from openwfm.benchmarks.diffusion_peer import GUIDANCE, Shape, network, ours, run_inputs, theirs
from openwfm.benchmarks.tokenizer import by_turns
from openwfm.diffusion import DiffusionWorldModel, DiTConfig, preset
from openwfm.diffusion.config import ConditionerConfig, EdmConfig, SamplerConfig
from openwfm.interop.diffusers import to_diffusers
from openwfm.randomness import torch_generator

TOLERANCE = 1e-5  # largest difference of samples, over the largest value
NET = DiTConfig(width=512, num_blocks=8, num_heads=8, padding_mask=False, max_size=(16, 64, 64))
MICRO = replace(preset("dit_nano"), width=768, num_blocks=12, num_heads=12, adaln_rank=64)
TRAINED: dict[str, tuple[DiTConfig, int]] = {"nano": (preset("dit_nano"), 32), "micro": (MICRO, 4)}
SHAPES: tuple[Shape, ...] = ((16, 3, 16, 16), (16, 5, 32, 32))
WORDS, TOKENS = 41, 512  # text tokens of a prompt; of the padded text
TRAINING_LATENTS = (16, 3, 8, 8)
TITLES = {
    "ceilings": "GFLOP/s of this machine",
    "sampling": "guided sampling beside diffusers: same weights and noise, by turns",
    "memory": "peak memory of sampling, above the weights",
    "training": "training step",
    "approximate": "approximate modes beside the exact run of the same seeds",
}


@dataclass(frozen=True, kw_only=True)
class DiffusionBenchConfig:
    """``repeats`` turns of each measurement; ``quick`` takes 4 steps instead of 35 and one compiled
    shape less; ``world`` is a folder of published weights for the approximate modes (null: none).
    """

    repeats: int = 3
    quick: bool = False
    world: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats}: must be at least 1")


def bench_diffusion(config: DiffusionBenchConfig) -> dict[str, list[dict[str, Any]]]:
    """The tables of `TITLES`, a dict a row."""
    ceiling = matmul_ceiling(config)
    steps = 4 if config.quick else 35
    sampler = SamplerConfig(num_steps=steps, guidance=GUIDANCE)
    compiled = SHAPES[:1] if config.quick else SHAPES
    modes = [(shape, False) for shape in SHAPES] + [(shape, True) for shape in compiled]
    tables = {
        "ceilings": [{"matrix product": ceiling, "threads": torch.get_num_threads()}],
        "sampling": [
            compare(shape, replace(sampler, compile=compiles), config, ceiling)
            for shape, compiles in modes
        ],
        "memory": [peak_of_sampling(NET, shape) for shape in SHAPES],
        "training": [row for name in TRAINED for row in training(name, config, ceiling)],
    }
    if config.world is not None:
        tables["approximate"] = approximate(config.world, config.quick)
    return tables


@torch.no_grad()
def matmul_ceiling(config: DiffusionBenchConfig) -> float:
    """GFLOP/s of a square matrix product of 1024, the best of many."""
    generator = torch_generator(config.seed, "bench diffusion ceiling")
    a, b = (torch.randn(1024, 1024, generator=generator) for _ in range(2))
    by_turns({"product": lambda: a @ b}, 3)
    seconds = by_turns({"product": lambda: a @ b}, 20 * config.repeats)["product"]
    return 2 * 1024**3 / min(seconds) / 1e9


def compare(
    shape: Shape, sampler: SamplerConfig, config: DiffusionBenchConfig, ceiling: float
) -> dict[str, Any]:
    """One row. Asserts that samples agree. Preparation counts for ours; compilation does not."""
    net = network(NET, config.seed)
    inputs = run_inputs(NET, shape, (WORDS, TOKENS), config.seed)
    peer = to_diffusers(net)

    def one() -> Tensor:
        return ours(net, sampler, inputs)

    def other() -> Tensor:
        return theirs(peer, sampler, inputs)

    found, wanted = one(), other()
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error <= TOLERANCE, f"{shape}: samples differ by {error:.1e}"
    seconds = by_turns({"ours": one, "theirs": other}, config.repeats)
    pairs = zip(seconds["ours"], seconds["theirs"], strict=True)
    row: dict[str, Any] = {"latents": "x".join(map(str, shape)), "steps": sampler.num_steps}
    row["compiled"] = sampler.compile
    for who, needed in zip(("ours", "theirs"), gflop(NET, shape), strict=True):
        median = statistics.median(seconds[who])
        row[f"{who}_s"] = median
        row[f"{who}_of_ceiling"] = needed * sampler.num_steps / median / ceiling
    row["ratio"] = statistics.median(theirs_s / ours_s for ours_s, theirs_s in pairs)
    return {**row, "difference": error}


def gflop(config: DiTConfig, shape: Shape) -> tuple[float, float]:
    """Needed for one guided step by our sampling and by diffusers': products of the blocks only.

    Per token and block, in units of width²: self-attention 4, cross-attention 2, MLP 8.
    """
    tokens = shape[1] * shape[2] * shape[3] // 4
    d, blocks = config.width, config.num_blocks
    own = 2 * tokens * 4 * d * d + 4 * tokens**2 * d
    mlp = 2 * tokens * 8 * d * d
    cross = 2 * tokens * 2 * d * d
    keys = 2 * TOKENS * 2 * d * config.text_width
    plain = 2 * blocks * (own + mlp + cross + 4 * tokens * TOKENS * d + keys)
    text = cross + 4 * tokens * (WORDS + 1) * d
    prepared = blocks * (2 * (own + mlp) + text) - own
    return prepared / 1e9, plain / 1e9


def training(name: str, config: DiffusionBenchConfig, ceiling: float) -> list[dict[str, Any]]:
    """Loss, backward and AdamW on random latents, without and with checkpoints of the blocks.

    Operations are three times those of the forward pass (recomputing them is not counted, for it is
    not needed); ``kept_mib`` is what autograd keeps of one forward pass beside the parameters.
    """
    net, batch = TRAINED[name]
    rows, kept = [], {}
    steps: dict[str, Callable[[], object]] = {}
    models = {}
    for checkpoint in (False, True):
        label = "blocks" if checkpoint else "no"
        model = models[label] = _world(net, config.seed)
        model.net.checkpoint_blocks = checkpoint
        forward, steps[label] = _step(model, batch, config.seed)
        kept[label] = kept_mib(forward)
    by_turns(steps, 1)
    seconds = by_turns(steps, 2 * config.repeats)
    tokens = TRAINING_LATENTS[1] * TRAINING_LATENTS[2] * TRAINING_LATENTS[3] // 4
    d = net.width
    forward_flop = net.num_blocks * tokens * (2 * 14 * d * d + 4 * tokens * d)
    for label, times in seconds.items():
        rate = batch / statistics.median(times)
        share = 3e-9 * forward_flop * rate / ceiling
        row = {"net": name, "batch": batch, "checkpoints": label, "samples_per_second": rate}
        rows.append({**row, "of_ceiling": share, "kept_mib": kept[label]})
    return rows


def _world(net: DiTConfig, seed: int) -> DiffusionWorldModel:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = DiffusionWorldModel(
            net=net,
            objective=EdmConfig(),
            conditioner=ConditionerConfig(max_frames=1),
            sampler=SamplerConfig(),
        )
    ones = torch.ones(net.in_channels, 1)
    model.set_latent_statistics(0 * ones, ones)
    return model.train()


def _step(
    model: DiffusionWorldModel, batch: int, seed: int
) -> tuple[Callable[[], Tensor], Callable[[], float]]:
    generator = torch_generator(seed, "bench diffusion training")
    latents = torch.randn(batch, *TRAINING_LATENTS, generator=generator)
    config = model.conditioner.config
    text = torch.randn(batch, config.text_tokens // 2, config.text_width, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    draws = model.draw(latents.shape, generator)
    fps = torch.full((batch,), 24.0)

    def forward() -> Tensor:
        return model.loss(latents, draws, text=text, fps=fps)[0]

    def step() -> float:
        loss = forward()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return forward, step


def kept_mib(forward: Callable[[], Tensor]) -> float:
    """MiB that autograd keeps for the backward pass, parameters left out, each storage once."""
    sizes: dict[int, int] = {}
    kept = []

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and not _is_view_of_parameter(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(sizes.values()) / 2**20


def _is_view_of_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor._base, torch.nn.Parameter)
