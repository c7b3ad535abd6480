"""The picture of the four worlds in the README: python docs/worlds.py."""

from pathlib import Path

import torch

from openwfm.config import build, compose
from openwfm.simulation.render import choose_backend
from openwfm.video import stack_rows, strip, write_png

FRAME = ["world.width=128", "world.height=96"]
ROWS = (
    ("physics", 5, "main", ["world.num_frames=33"]),
    ("rooms", 1, "main", ["world.num_frames=33"]),
    ("manipulation", 2, "main", ["world.skills=[expert]"]),
    ("driving", 0, "front", []),
)

rows = []
for name, index, view, more in ROWS:
    config = compose("simulate", [f"world={name}", "out=none", *FRAME, *more])
    world = build(config.world).open(0, choose_backend())
    frames = torch.from_numpy(world.film(index).views[view])
    world.close()
    rows.append(strip(frames[torch.linspace(0, len(frames) - 1, 6).long()]))
write_png(Path(__file__).with_suffix(".png"), stack_rows(rows))
