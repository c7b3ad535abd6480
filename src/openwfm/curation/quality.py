"""Stage "quality": how still, how lit and how clean a clip is. It decides nothing."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from openwfm.curation.aesthetic import AestheticConfig, AestheticHead, load_head
from openwfm.curation.features import signature
from openwfm.curation.look import Look
from openwfm.curation.record import Clip, Record
from openwfm.curation.sharpness import blocking, blur_width, noise_level
from openwfm.extras import require

# Grey levels (of 255) after a 3×3 blur. Measured on 418 simulated shots: between frames of a frozen
# shot the 99.5th percentile of changes is at most 0.3, between those of a live one hardly below 2.
SAME_FRAME = 1.0
SAME_FRAME_PERCENTILE = 99.5
CHANGED_PIXEL = 10.0
BLACK_FRAME = 32.0  # grey levels that hardly a pixel of a black frame reaches
DARKEST, BRIGHTEST = 4, 251  # grey levels at which detail is lost
# Where a defect alone halves `technical`: pixels, grey levels, grey levels, share of pixels.
HALF = {"blur": 1.2, "blocking": 3.0, "noise": 8.0, "clipped_dark": 0.6, "clipped_bright": 0.4}
STEEPNESS = 4
# A clip is as sharp as the sharper of its stills: something may pass before the lens. Else medians.
OF_STILLS = {"blur": 0.25}


class MeasureQuality:
    """Adds scores, tags and the thumbnail signature. ``aesthetic``: also what that head says."""

    name = "quality"
    accepts = Clip

    def __init__(self, aesthetic: AestheticConfig | None = None) -> None:
        self.aesthetic = aesthetic
        self.head: AestheticHead | None = None
        self.cv2: Any = None

    def setup(self) -> None:
        self.cv2 = require("cv2", extra="curation")
        self.cv2.setNumThreads(1)
        if self.aesthetic is not None:
            self.head = load_head(self.aesthetic)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None
        look = record.media.look
        assert look is not None
        small = shrunk(self.cv2, look)
        each = defects_of_stills(self.cv2, look.stills)
        scores = {
            **stillness(self.cv2, look.thumbs.astype(np.float32)),
            **light(look.thumbs, small),
            "black": black_share(look.thumbs),
            **{name: float(np.quantile(v, OF_STILLS.get(name, 0.5))) for name, v in each.items()},
        }
        scores["technical"] = technical(scores)
        evidence: dict[str, Any] = {name: rounded(values) for name, values in each.items()}
        if self.head is not None:
            liked = self.head(look.stills)
            scores["aesthetic"] = self.head.reduce(liked)
            evidence |= {"aesthetic": rounded(liked), "aesthetic_head": self.head.name}
        scores = {name: round(float(value), 6) for name, value in scores.items()}
        return [
            replace(
                record,
                scores={**record.scores, **scores},
                tags=(*record.tags, *looks(small, scores)),
                evidence={**record.evidence, self.name: evidence},
                media=replace(record.media, signature=signature(look.thumbs)),
            )
        ]


def rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def shrunk(cv2: Any, look: Look) -> UInt8[np.ndarray, "n v u 3"]:
    """The stills at the size of the thumbs, at most: for colours."""
    height, width = (
        min(sides) for sides in zip(look.thumbs.shape[1:], look.stills.shape[1:3], strict=True)
    )
    area = cv2.INTER_AREA
    return np.stack([cv2.resize(p, (width, height), interpolation=area) for p in look.stills])


def defects_of_stills(
    cv2: Any, stills: UInt8[np.ndarray, "n h w 3"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """`blur`, `blocking`, `noise`, and the shares of pixels that are ``clipped_dark`` (luma at most
    4) and ``clipped_bright`` (at least 251), of every still."""
    greys = [cv2.cvtColor(still, cv2.COLOR_RGB2GRAY) for still in stills]
    return {
        "blur": np.array([blur_width(cv2, grey) for grey in greys]),
        "blocking": np.array([blocking(grey) for grey in greys]),
        "noise": np.array([noise_level(cv2, grey) for grey in greys]),
        "clipped_dark": np.array([(grey <= DARKEST).mean() for grey in greys]),
        "clipped_bright": np.array([(grey >= BRIGHTEST).mean() for grey in greys]),
    }


def technical(scores: Mapping[str, float]) -> float:
    """One figure in [0, 1] for the absence of technical defects; falls with each of them.

    The product of 1 / (1 + (x / half)⁴) over blur, blocking, noise and both clipped shares, where
    ``half`` is the amount that alone halves it, times the share of frames that are not black.
    """
    quality = 1.0 - scores["black"]
    for name, half in HALF.items():
        quality /= 1 + (scores[name] / half) ** STEEPNESS
    return quality


def black_share(thumbs: UInt8[np.ndarray, "t v u"]) -> float:
    """Share of frames of which 99 % of the pixels are darker than 32 grey levels."""
    brightest = np.percentile(thumbs.reshape(len(thumbs), -1), 99, axis=1)
    return float((brightest < BLACK_FRAME).mean())


def stillness(cv2: Any, grey: Float[np.ndarray, "t h w"]) -> dict[str, float]:
    """``frozen``: share of frames equal to the one before; ``moving``: share of pixels that change.

    ``change_mean`` is the mean change between frames in grey levels. The blur takes coding noise
    away. A single frame is frozen.
    """
    smooth = np.stack([cv2.blur(frame, (3, 3)) for frame in grey])
    spread = smooth.max(axis=0) - smooth.min(axis=0)
    moving = float((spread > CHANGED_PIXEL).mean())
    if len(grey) < 2:
        return {"frozen": 1.0, "moving": moving, "change_mean": 0.0}
    changes = np.abs(np.diff(smooth, axis=0))
    largest = np.percentile(changes, SAME_FRAME_PERCENTILE, axis=(1, 2))
    return {
        "frozen": float((largest < SAME_FRAME).mean()),
        "moving": moving,
        "change_mean": float(changes.mean()),
    }


def light(
    thumbs: UInt8[np.ndarray, "t v u"], colours: UInt8[np.ndarray, "n y x 3"]
) -> dict[str, float]:
    """Grey levels 0 to 255 over all frames; hue and saturation in [0, 1] of the mean colour."""
    hue, saturation, _ = colorsys.rgb_to_hsv(*colours.reshape(-1, 3).mean(axis=0) / 255)
    return {
        "luma_mean": float(thumbs.mean()),
        "luma_p95": float(np.percentile(thumbs, 95)),
        "contrast": float(thumbs.std()),
        "hue": hue,
        "saturation": saturation,
    }


def looks(colours: UInt8[np.ndarray, "n y x 3"], scores: Mapping[str, float]) -> tuple[str, ...]:
    """Words for motion, light and the commonest colour."""
    moving, luma = scores["moving"], scores["luma_mean"]
    amount = "little_motion" if moving < 0.1 else "strong_motion" if moving > 0.5 else "motion"
    brightness = "dark" if luma < 60 else "bright" if luma > 170 else "normal_light"
    return amount, brightness, dominant_colour(colours)


def dominant_colour(frames: UInt8[np.ndarray, "t h w c"]) -> str:
    pixels = frames[:: max(1, len(frames) // 8), ::4, ::4].reshape(-1, 3).astype(np.float32) / 255
    high, low = pixels.max(axis=1), pixels.min(axis=1)
    vivid = (high - low) > 0.25 * np.maximum(high, 0.2)
    if vivid.mean() < 0.35:
        level = float(high.mean())
        return "black" if level < 0.2 else "white" if level > 0.8 else "grey"
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels[vivid].tolist()])
    names = ("red", "yellow", "green", "cyan", "blue", "magenta")
    counts = np.bincount(np.rint(hues * 6).astype(int) % 6, minlength=6)
    return names[int(counts.argmax())]
