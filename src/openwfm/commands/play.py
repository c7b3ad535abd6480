"""``openwfm play run=RUN frames=[clip.mp4]``: a page on which a world is driven with keys."""

from __future__ import annotations

from omegaconf import DictConfig

from openwfm.config import build


def main(config: DictConfig) -> int:
    """Serve until interrupted; returns 0."""
    from openwfm.extras import require
    from openwfm.world import World
    from openwfm.world.server.app import Server
    from openwfm.world.server.config import PlayConfig

    request = build(config.play)
    assert isinstance(request, PlayConfig)
    uvicorn = require("uvicorn", extra="play")
    world = World.load(request.run, device=request.device)
    beginnings = [
        world.session(world.beginning(file)[None], seeds=[request.seed + number])
        for number, file in enumerate(request.frames)
    ]
    app = Server(beginnings, request, title=f"openwfm: {request.run}").app()
    print(f"open http://{request.host}:{request.port}/ (Ctrl+C ends)")
    uvicorn.run(
        app,
        host=request.host,
        port=request.port,
        log_level="warning",
        ws_max_size=4 * request.max_message,
    )
    return 0
