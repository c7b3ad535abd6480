"""``openwfm tokenize tokenizer=WEIGHTS in=long.mp4 out=latents.safetensors``, and back."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from openwfm.config import build


def main(config: DictConfig) -> int:
    """Stream a video to latents, or latents to a video; returns 0."""
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
