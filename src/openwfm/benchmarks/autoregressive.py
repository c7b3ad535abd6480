"""``openwfm bench autoregressive``: decoding beside transformers and beside the memory's limit.

One process, contestants by turns; a figure is the median over the turns, a ratio the median of the
ratios to the Llama of the same turn. A step makes one token of every sequence.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from openwfm.autoregressive import KeyValueCache, Transformer, TransformerConfig
from openwfm.autoregressive.native.library import library
from openwfm.autoregressive.quantized import PRECISIONS
from openwfm.autoregressive.runtime import decoder_for
from openwfm.benchmarks.autoregressive_drafts import by_chance
from openwfm.benchmarks.autoregressive_peers import Run, module_alone, ours, theirs, twin
from openwfm.benchmarks.autoregressive_world import decodings, of_world
from openwfm.randomness import torch_generator

Table = tuple[str, list[dict[str, Any]]]
POSITIONS = 2048
SHAPE: dict[str, Any] = {"grid": (POSITIONS, 1, 1)}
NETS = {
    "nano": TransformerConfig(
        width=192, num_layers=6, num_heads=4, num_kv_heads=2, head_dim=48, hidden=512,
        vocabulary=1000, **SHAPE,
    ),
    "26M": TransformerConfig(
        width=512, num_layers=8, num_heads=8, num_kv_heads=2, head_dim=64, hidden=1536,
        vocabulary=4096, **SHAPE,
    ),
}  # fmt: skip
PROMPT = 16
TITLES = {
    "limit": "reading memory",
    "decode": "greedy decoding beside a Llama of the same shape",
    "agreement": "the same network in transformers (Qwen3)",
    "positions": "milliseconds a token by position, 26M, batch 1",
    "drafts": "drafts that hold with a given chance, beside decoding one by one (26M, batch 1)",
    "quality": "effect of reduced precision",
    "stream": "frames of world.stream, one sequence",
    "speculation": "drafts of the previous frame beside decoding one by one",
}


@dataclass(frozen=True, kw_only=True)
class AutoregressiveBenchConfig:
    """``repeats`` turns of each; ``quick`` decodes a quarter of the tokens.

    ``world`` (a run or a folder of weights) and ``shards`` of clips add what random weights cannot
    show: the quality of reduced precision on video and what speculation saves. None streams from
    random weights and leaves those out. ``tables`` are some of `TITLES`, None all that apply.
    """

    tables: tuple[str, ...] | None = None
    repeats: int = 3
    quick: bool = False
    world: str | None = None
    shards: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tables is not None:
            object.__setattr__(self, "tables", tuple(self.tables))
            if not self.tables or not set(self.tables) <= set(TITLES):
                raise ValueError(f"tables={self.tables}: must be some of {', '.join(TITLES)}")
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats}: must be at least 1")
        if self.world is not None and self.shards is None:
            raise ValueError(f"shards={self.shards}: must name shards beside world={self.world}")

    @property
    def num_tokens(self) -> int:
        return 64 if self.quick else 256


def bench_autoregressive(config: AutoregressiveBenchConfig) -> Iterator[Table]:
    """The tables of `TITLES` that apply, one after the other: a name, and a dict a row."""
    bandwidth = read_bandwidth()
    networks = {name: random_network(net, config.seed) for name, net in NETS.items()}
    limit = {
        "threads": torch.get_num_threads(),
        "GB/s": bandwidth / 1e9,
        "native": library() is not None,
    }
    largest = networks["26M"]
    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "limit": lambda: [limit],
        "agreement": lambda: [agreement(name, net, config) for name, net in networks.items()],
        "decode": lambda: [
            row
            for name, network in networks.items()
            for batch in (1, 8)
            for row in compare(name, network, batch, config, bandwidth)
        ],
        "positions": lambda: by_position(largest, config),
        "drafts": lambda: list(
            by_chance(largest, decodings(), config.repeats, config.quick, config.seed)
        ),
    }
    makers |= of_world(config.world, config.shards, config.repeats, config.quick, config.seed)
    for name, make in makers.items():
        if config.tables is None or name in config.tables:
            yield name, make()


def random_network(net: TransformerConfig, seed: int) -> Transformer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Transformer(net).eval().requires_grad_(False)


def read_bandwidth(megabytes: int = 256) -> float:
    """Bytes a second of reading more than caches hold: the best of several sums."""
    data = torch.ones(megabytes * 2**18)
    best = torch.inf
    for _ in range(9):
        start = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - start)
    return data.numel() * 4 / best


def contestants(network: Transformer) -> dict[str, Run]:
    llama = twin(network, "Llama")
    found = {
        "Llama, dynamic cache": theirs(llama, "dynamic"),
        "Llama, static cache": theirs(llama, "static"),
        "our module": module_alone(network),
    }
    for label, decoding in decodings(PRECISIONS).items():
        found[label] = ours(network, decoding)
    return found


def compare(
    name: str,
    network: Transformer,
    batch: int,
    config: AutoregressiveBenchConfig,
    bandwidth: float,
) -> list[dict[str, Any]]:
    """A row a contestant. Greedy tokens of fp32 must be the module's; the share that agree in
    reduced precision is of sequences that part for good at their first difference."""
    generator = torch_generator(config.seed, "bench/prompt", batch)
    prompt = torch.randint(network.config.vocabulary, (batch, PROMPT), generator=generator)
    runs = contestants(network)
    times: dict[str, list[float]] = {label: [] for label in runs}
    tokens = {}
    for run in runs.values():
        run(prompt, 4)
    for _ in range(config.repeats):
        for label, run in runs.items():
            tokens[label], seconds = run(prompt, config.num_tokens)
            times[label].append(seconds / (config.num_tokens - 1))
    base = [
        min(pair)
        for pair in zip(times["Llama, dynamic cache"], times["Llama, static cache"], strict=True)
    ]
    rows = []
    for label, steps in times.items():
        step = statistics.median(steps)
        least = step_bytes(network, batch, label, config.num_tokens) / bandwidth
        rows.append(
            {
                "net": name,
                "batch": batch,
                "decoder": label,
                "tokens/s": batch / step,
                "times_llama": statistics.median(a / b for a, b in zip(base, steps, strict=True)),
                "share_of_limit": least / step,
                "same_tokens": None
                if "Llama" in label
                else float((tokens[label] == tokens["our module"]).float().mean()),
            }
        )
    return rows


def step_bytes(network: Transformer, batch: int, label: str, count: int) -> float:
    """What a step reads at least: every matrix once, and half of the final cache."""
    config = network.config
    size = {"bf16": 2, "int8": 1}.get(label.rsplit(" ", 1)[-1], 4)
    matrices = sum(p.numel() for p in network.parameters() if p.ndim == 2)
    matrices -= network.embed.weight.numel()
    length = PROMPT + count / 2
    cache = 2 * config.num_layers * config.num_kv_heads * config.head_dim * length * batch * 4
    return matrices * size + cache


def agreement(name: str, network: Transformer, config: AutoregressiveBenchConfig) -> dict[str, Any]:
    """The largest difference of logits, relative, and whether greedy tokens are the same."""
    qwen = twin(network, "Qwen3")
    generator = torch_generator(config.seed, "bench/agreement")
    prompt = torch.randint(network.config.vocabulary, (2, PROMPT), generator=generator)
    reference, _ = theirs(qwen, "dynamic")(prompt, config.num_tokens)
    row: dict[str, Any] = {"net": name, "tokens": config.num_tokens}
    with torch.inference_mode():
        expected = qwen(input_ids=prompt).logits
    for label, decoding in decodings().items():
        decoder = decoder_for(network, decoding)
        cache = KeyValueCache(network.config, batch=2)
        with torch.inference_mode():
            steps = [decoder.hidden(token, cache=cache) for token in prompt.split(1, 1)]
            logits = decoder.logits(torch.cat(steps, 1))
        found, _ = ours(network, decoding)(prompt, config.num_tokens)
        row |= {
            f"{label.split()[0]}_difference": float(
                (logits - expected).abs().max() / expected.abs().max()
            ),
            f"{label.split()[0]}_same": bool(torch.equal(found, reference)),
        }
    return row


def by_position(network: Transformer, config: AutoregressiveBenchConfig) -> list[dict[str, Any]]:
    """Medians over 32 steps from each position: flat but for the attention to what is there."""
    starts = (0, 128, 512) if config.quick else (0, 128, 256, 512, 1024, 1984)
    rows = []
    token = torch.zeros(1, 1, dtype=torch.long)
    for start in starts:
        row: dict[str, Any] = {"position": start}
        for label, decoding in decodings(("fp32", "int8")).items():
            decoder, cache = decoder_for(network, decoding), KeyValueCache(network.config)
            cache.keys.zero_()
            cache.values.zero_()
            times = []
            with torch.inference_mode():
                for index in range(36):
                    cache.length = start + index
                    began = time.perf_counter()
                    decoder.logits(decoder.hidden(token, cache=cache))
                    times.append(time.perf_counter() - began)
            row[f"{label} ms"] = 1000 * statistics.median(times[4:])
        rows.append(row)
    return rows
