"""Text burnt into clips, and text that stands in the scene: material for `defect_clips`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from openwfm.extras import require

Frames = UInt8[np.ndarray, "t h w 3"]
Picture = Float[np.ndarray, "h w 4"]  # RGB 0 to 255 and opacity 0 to 1

FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSansMono.ttf", "STIXGeneral.ttf", "STIXGeneralBol.ttf", "cmss10.ttf",
)  # fmt: skip
WORDS = (
    "Sunday News", "LIVE", "Chapter Two", "www.example.com", "Copyright 2024", "Subscribe now",
    "The harbour at night", "Episode 7", "Breaking", "Stock footage", "He said nothing.",
    "Where are we going?", "City Channel", "Preview", "Interview with the mayor", "Replay",
)  # fmt: skip
SMALLEST = 0.03  # of the height: the letters, not the line


def font(rng: np.random.Generator, pixels: float) -> ImageFont.FreeTypeFont:
    """A font whose capitals are ``pixels`` high (0.73 of its size in DejaVu)."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / str(rng.choice(FONTS))), max(5, round(pixels / 0.7)))


def lettering(
    words: str, kind: ImageFont.FreeTypeFont, ink: tuple[int, int, int], outline: bool = False
) -> Picture:
    """The words, tightly cropped, on nothing; with ``outline`` in black around them."""
    stroke = max(1, round(kind.size / 14)) if outline else 0
    left, top, right, bottom = kind.getbbox(words, stroke_width=stroke)
    picture = Image.new("RGBA", (int(right - left) + 2, int(bottom - top) + 2), (*ink, 0))
    ImageDraw.Draw(picture).text(
        (1 - left, 1 - top), words, font=kind, fill=(*ink, 255), stroke_width=stroke,
        stroke_fill=(0, 0, 0, 255),
    )  # fmt: skip
    pixels = np.asarray(picture).astype(np.float32)
    pixels[..., 3] /= 255
    return pixels


def paste(frames: Frames, picture: Picture, top: int, left: int, opacity: float = 1.0) -> Frames:
    """A copy of the frames with the picture on them; what lies outside is cut off."""
    out = frames.copy()
    height, width = frames.shape[1:3]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + picture.shape[0]), min(width, left + picture.shape[1])
    if y0 < y1 and x0 < x1:
        part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
        share = part[..., 3:] * opacity
        below = out[:, y0:y1, x0:x1].astype(np.float32)
        out[:, y0:y1, x0:x1] = np.rint(below * (1 - share) + part[..., :3] * share)
    return out


def _fitted(
    frames: Frames, rng: np.random.Generator, words: str, size: float, **look: bool
) -> Picture:
    """White or vivid lettering ``size`` of the height high, and never wider than 92 % of it."""
    height, width = frames.shape[1:3]
    ink = ((255, 255, 255), (255, 255, 255), (250, 220, 40), (240, 60, 50))[int(rng.integers(4))]
    state = rng.bit_generator.state
    picture = lettering(words, font(rng, size * height), ink, **look)
    if picture.shape[1] > 0.92 * width:
        rng.bit_generator.state = state
        picture = lettering(
            words, font(rng, size * height * 0.9 * width / picture.shape[1]), ink, **look
        )
    return picture


def watermark(frames: Frames, rng: np.random.Generator) -> Frames:
    """Half transparent, in a corner."""
    height, width = frames.shape[1:3]
    picture = _fitted(frames, rng, str(rng.choice(WORDS)), float(rng.uniform(SMALLEST, 0.06)))
    edge = round(0.03 * height)
    top = edge if rng.random() < 0.5 else height - edge - picture.shape[0]
    left = edge if rng.random() < 0.5 else width - edge - picture.shape[1]
    return paste(frames, picture, top, left, float(rng.uniform(0.45, 0.9)))


def caption(frames: Frames, rng: np.random.Generator) -> Frames:
    """Outlined or on a dark bar, low in the middle; half of them for a part of the time."""
    height, width = frames.shape[1:3]
    picture = _fitted(
        frames, rng, str(rng.choice(WORDS)), float(rng.uniform(0.04, 0.08)),
        outline=bool(rng.random() < 0.6),
    )  # fmt: skip
    top = round(float(rng.uniform(0.78, 0.9)) * height) - picture.shape[0] // 2
    left = (width - picture.shape[1]) // 2
    out = frames
    if rng.random() < 0.4:
        bar = np.zeros((picture.shape[0] + 6, picture.shape[1] + 12, 4), np.float32)
        bar[..., 3] = 0.75
        out = paste(out, bar, top - 3, left - 6)
    out = paste(out, picture, top, left)
    if rng.random() < 0.5:
        return out
    start = int(rng.integers(len(frames) // 3 + 1))
    end = start + round(len(frames) * 0.6)
    return np.concatenate([frames[:start], out[start:end], frames[end:]])


def logo(frames: Frames, rng: np.random.Generator) -> Frames:
    """Two to four letters in a filled shape, in a corner."""
    height, width = frames.shape[1:3]
    letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTVZ"), int(rng.integers(2, 5))))
    text = lettering(letters, font(rng, float(rng.uniform(0.04, 0.08)) * height), (255, 255, 255))
    pad = max(3, text.shape[0] // 2)
    colour = tuple(int(v) for v in rng.integers(20, 190, 3))
    back = Image.new("RGBA", (text.shape[1] + 2 * pad, text.shape[0] + 2 * pad), (*colour, 0))
    draw = ImageDraw.Draw(back)
    shape = (0, 0, back.width - 1, back.height - 1)
    (draw.rectangle if rng.random() < 0.5 else draw.ellipse)(shape, fill=(*colour, 255))
    picture = np.asarray(back).astype(np.float32)
    picture[..., 3] /= 255
    out = paste(picture[None, ..., :3].astype(np.uint8), text, pad, pad)
    picture[..., :3] = out[0]
    edge = round(0.04 * height)
    top = edge if rng.random() < 0.7 else height - edge - picture.shape[0]
    left = edge if rng.random() < 0.5 else width - edge - picture.shape[1]
    return paste(frames, picture, top, left, float(rng.uniform(0.6, 1.0)))


def clock(frames: Frames, rng: np.random.Generator) -> Frames:
    """A running time code."""
    height, width = frames.shape[1:3]
    kind = font(rng, float(rng.uniform(0.035, 0.06)) * height)
    start, right = int(rng.integers(3600)), rng.random() < 0.5
    out = []
    for index in range(len(frames)):
        seconds = start + index // 12
        words = (
            f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{index % 12:02d}"
        )
        picture = lettering(words, kind, (255, 255, 255), outline=True)
        left = width - picture.shape[1] - 6 if right else 6
        out.append(paste(frames[index : index + 1], picture, round(0.04 * height), left))
    return np.concatenate(out)


def title(frames: Frames, rng: np.random.Generator) -> Frames:
    """A card instead of the scene, or large words over it."""
    height, width = frames.shape[1:3]
    if rng.random() < 0.6:
        frames = np.broadcast_to(rng.integers(0, 90, 3).astype(np.uint8), frames.shape)
    lines = [str(word) for word in rng.choice(WORDS, int(rng.integers(1, 4)), replace=False)]
    size, out = float(rng.uniform(0.07, 0.14)), frames
    for number, words in enumerate(lines):
        picture = _fitted(frames, rng, words, size)
        top = round(height * (number + 1) / (len(lines) + 1)) - picture.shape[0] // 2
        out = paste(out, picture, top, (width - picture.shape[1]) // 2)
    return out


KINDS: dict[str, Callable[[Frames, np.random.Generator], Frames]] = {
    "watermark": watermark,
    "caption": caption,
    "logo": logo,
    "clock": clock,
    "title": title,
}


def painted_sign(frames: Frames, rng: np.random.Generator) -> Frames:
    """A board with words in the scene, seen in perspective, that stays where it is."""
    cv2 = require("cv2", extra="simulation")
    height, width = frames.shape[1:3]
    text = lettering(
        str(rng.choice(WORDS)), font(rng, float(rng.uniform(0.05, 0.1)) * height), (20, 25, 40)
    )
    pad = text.shape[0] // 2
    board = np.full((text.shape[0] + 2 * pad, text.shape[1] + 2 * pad, 4), 255, np.float32)
    board[..., :3], board[..., 3] = rng.uniform(150, 255, 3), 1
    board[..., :3] = paste(board[None, ..., :3].astype(np.uint8), text, pad, pad)[0]
    high, wide = board.shape[:2]
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    shrink = min(1.0, 0.6 * width / wide)
    spread = corners * shrink + rng.uniform(-0.25, 0.25, (4, 2)).astype(np.float32) * high * shrink
    place = rng.uniform((0.05, 0.1), (0.35, 0.75)) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, (spread + place).astype(np.float32))
    picture = cv2.warpPerspective(board, matrix, (width, height), flags=cv2.INTER_AREA)
    return paste(frames, picture, 0, 0)


def filmed_sign(frames: Frames, rng: np.random.Generator) -> Frames:
    """As `painted_sign`, filmed by a camera that pans, nears or is held by hand."""
    cv2 = require("cv2", extra="simulation")
    signed = painted_sign(frames, rng)
    height, width = frames.shape[1:3]
    steps = np.linspace(-0.5, 0.5, len(frames))
    kind = ("pan", "near", "hand")[int(rng.integers(3))]
    shift, zoom = np.zeros((len(frames), 2)), np.full(len(frames), 1.25)
    if kind == "pan":
        angle = rng.uniform(0, 2 * np.pi)
        way = np.array([np.cos(angle), np.sin(angle)]) * float(rng.uniform(0.08, 0.2))
        shift = steps[:, None] * way * (width, height)
    elif kind == "near":
        zoom = 1.3 + steps * float(rng.uniform(0.25, 0.5)) * rng.choice((-1, 1))
    else:
        steps = rng.normal(0, 1, (len(frames), 2))
        walk = cv2.GaussianBlur(steps, (0, 0), sigmaX=1e-3, sigmaY=3)
        shift = walk / walk.std(axis=0) * float(rng.uniform(0.015, 0.03)) * height
    out = []
    for frame, move, scale in zip(signed, shift, zoom, strict=True):
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
        matrix[:, 2] += move
        flags = cv2.INTER_LINEAR
        out.append(
            cv2.warpAffine(
                frame, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101
            )
        )
    return np.stack(out)
