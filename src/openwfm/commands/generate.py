"""``openwfm generate run=RUN frames=clip.mp4 prompt="…" out=future.mp4``."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from openwfm.config import build


def main(config: DictConfig) -> int:
    """Write one video that carries its provenance; returns 0."""
    from openwfm.video import carried_caption
    from openwfm.world import World
    from openwfm.world.config import GenerateConfig

    request = build(config.generate)
    assert isinstance(request, GenerateConfig)
    world = World.load(request.run, device=request.device)
    world.decode_with(precision=request.precision, native=request.native, keep=request.keep)
    prompt = request.prompt
    if prompt is None and request.prompts is None:
        prompt = carried_caption(request.frames) if world.facts.reads_text else ""
    start = time.perf_counter()
    generation = world.generate(
        frames=request.frames,
        prompt=prompt or "",
        prompts=request.prompts,
        trajectory=request.trajectory,
        num_frames=request.num_frames,
        seed=request.seed,
        guidance=request.guidance,
        num_steps=request.num_steps,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        fps=request.fps,
        chunking=request.chunking,
        actions=request.actions,
        camera=request.camera,
        progress=True,
    )
    generation.save(request.out)
    given = generation.provenance["condition"]["frames"]
    chunks = generation.provenance["chunks"]
    parts = f", {chunks['count']} chunks" if chunks else ""
    print(
        f"{request.out}: {generation.video.shape[1]} frames ({given} given{parts}), "
        f"seed {request.seed}, {time.perf_counter() - start:.1f} s"
    )
    return 0
