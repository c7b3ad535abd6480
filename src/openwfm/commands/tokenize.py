"""``openwfm tokenize tokenizer=WEIGHTS in=… out=…``: videos ⇄ latents, shards → latents."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from openwfm.config import build


def main(config: DictConfig) -> int:
    """Tokenise what ``kind`` says; returns 0."""
    kinds = {"video": _video, "shards": _shards, "statistics": _statistics}
    if config.kind not in kinds:
        raise ValueError(f"kind={config.kind}: must be one of {', '.join(kinds)}")
    return kinds[config.kind](config)


def _shards(config: DictConfig) -> int:
    from openwfm.tokenizer.shards import tokenize_shards

    done = tokenize_shards(build(config.shards))
    print(
        f"{config.out}: latents of {done.num_clips} clips ({done.num_encoded} encoded now), "
        f"{done.num_latents} latent frames"
    )
    return 0


def _statistics(config: DictConfig) -> int:
    from openwfm.tokenizer.shards import measure_statistics
    from openwfm.weights import STATISTICS

    found = measure_statistics(build(config.shards))
    print("channel      mean       std")
    for channel, (mean, std) in enumerate(zip(found.mean, found.std, strict=True)):
        print(f"{channel:7d} {float(mean):9.4f} {float(std):9.4f}")
    print(f"{Path(config.tokenizer) / STATISTICS}: {len(found.count)} latent frames")
    return 0


def _video(config: DictConfig) -> int:
    """Stream a video to latents, or latents to a video."""
    from openwfm.tokenizer.files import LATENTS, TokenizeConfig, detokenize_file, tokenize_file

    request = build(config.tokenize)
    assert isinstance(request, TokenizeConfig)
    back = Path(request.source).suffix == LATENTS
    start = time.perf_counter()
    report = (detokenize_file if back else tokenize_file)(request)
    seconds = time.perf_counter() - start
    print(
        f"{request.out}: {report.num_frames} frames, {report.num_latents} latent frames, "
        f"{report.num_frames / seconds:.1f} frames/s, "
        f"{report.num_state_elements / 1e6:.2f} M numbers carried along"
    )
    return 0
