"""Title cards: a few words on a plain background."""

from __future__ import annotations

import numpy as np

from openwfm.extras import require
from openwfm.simulation.render import shrink

WORDS = ("PART ONE", "PART TWO", "THE TABLE", "LATER", "MOTION", "THE END", "GRAVITY", "CHAPTER 3")
GROUNDS = ((24, 26, 34), (70, 22, 26), (20, 48, 62), (205, 198, 182), (38, 58, 40))
DETAIL = 4


def title_card(rng: np.random.Generator, size: int) -> np.ndarray:
    """uint8 picture ``h w c``, ``size`` pixels square."""
    cv2 = require("cv2", extra="simulation")
    ground = GROUNDS[int(rng.integers(len(GROUNDS)))]
    ink = (235, 232, 225) if sum(ground) < 380 else (40, 36, 34)
    side = size * DETAIL
    card = np.empty((side, side, 3), np.uint8)
    card[:] = ground
    lines = WORDS[int(rng.integers(len(WORDS)))].split()
    scale, thickness = side / 170, max(1, side // 42)
    for index, line in enumerate(lines):
        (width, height), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        fit = scale * min(1.0, 0.86 * side / width)
        (width, height), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, fit, thickness)
        centre = side * (index + 1) / (len(lines) + 1)
        corner = ((side - width) // 2, round(centre + height / 2))
        cv2.putText(card, line, corner, cv2.FONT_HERSHEY_SIMPLEX, fit, ink, thickness, cv2.LINE_AA)
    return shrink(card, DETAIL)
