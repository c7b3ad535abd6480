"""Stage: one unit vector a clip, by which clips are compared, clustered, deduplicated and found.

Appearance comes from a frozen image network on a few stills, motion from optical flow. The vector
is made so that its cosine says something: features are centred and whitened before their length is
taken out, for the raw ones of any two pictures have a cosine near 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8

from openwfm.curation.look import Look, spread
from openwfm.curation.record import Clip, Record
from openwfm.extras import require
from openwfm.files import atomic_path

APPEARANCE_WIDTH = 207
GRID = 4
MOTION_WIDTH = 3 * GRID * GRID
# Flow in diagonals a second that counts half: a brisk walk across the picture in ten seconds.
HALF_SPEED = 0.1
WHITENING = Path(__file__).parent / "assets" / "whitening.safetensors"
SIGNATURE_SIDE = 8


class Encoder(Protocol):
    """Turns looks into unit fp32 vectors ``width`` wide, and texts too where ``has_text``."""

    name: str
    width: int
    has_text: bool

    def embed(self, look: Look) -> Float[np.ndarray, " d"]: ...

    def embed_text(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]: ...


class EncoderConfig(Protocol):
    """A frozen dataclass that names an encoder; ``open`` loads its weights."""

    def open(self) -> Encoder: ...


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """The default: EfficientNet-Lite0 on ``num_stills`` pictures, 224 pixels square.

    ``motion`` is the share (0 to 1) of the squared length that motion has in the vector.
    """

    num_stills: int = 8
    motion: float = 0.1

    def __post_init__(self) -> None:
        if self.num_stills < 1:
            raise ValueError(f"encoder.num_stills={self.num_stills}: must be at least 1")
        if not 0 <= self.motion < 1:
            raise ValueError(f"encoder.motion={self.motion}: must be in [0, 1) (a share)")

    def open(self) -> Encoder:
        return EfficientNetEncoder(self)


class EfficientNetEncoder:
    """256 wide: 207 of appearance, 48 of motion and one that completes the motion's length."""

    name = "efficientnet-lite0"
    width = APPEARANCE_WIDTH + MOTION_WIDTH + 1
    has_text = False

    def __init__(self, config: EfficientNetConfig) -> None:
        from openwfm.nn.efficientnet import EfficientNetPooled, load_backbone

        self.config = config
        self.network = EfficientNetPooled(load_backbone()).eval()
        self.cv2 = require("cv2", extra="curation")
        self.cv2.setNumThreads(1)
        self.whitening: Whitening | None = None  # loaded on the first use: training makes it

    @torch.inference_mode()
    def pooled(self, look: Look) -> Float[np.ndarray, "n d"]:
        """Features of the stills, ``n 1280``: one picture at a time, so that no batch size can
        change the last bits."""
        at = spread(len(look.stills), self.config.num_stills)
        rows = [self.network(square(self.cv2, look.stills[i], 224)) for i in at]
        return torch.cat(rows).numpy()

    def embed(self, look: Look) -> Float[np.ndarray, " d"]:
        self.whitening = self.whitening or load_whitening(WHITENING)
        return join(
            self.whitening.apply(self.pooled(look).mean(axis=0)),
            motion_field(self.cv2, look),
            self.config.motion,
        )

    def embed_text(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        raise ValueError(f"encoder={self.name}: has no text tower")


def square(cv2: Any, still: UInt8[np.ndarray, "h w 3"], side: int) -> torch.Tensor:
    """The whole picture, squeezed to ``1 3 side side`` in [-1, 1]: crops would hide the edges."""
    shrinks = min(still.shape[:2]) > side
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    small = cv2.resize(np.ascontiguousarray(still), (side, side), interpolation=kind)
    return torch.from_numpy(small).permute(2, 0, 1)[None].float().div(127.5).sub(1.0)


def motion_field(cv2: Any, look: Look) -> Float[np.ndarray, " d"]:
    """Mean flow, and mean speed, of each cell of a 4×4 grid: 48 numbers, squashed into (-1, 1).

    Flow is in diagonals a second, averaged over pairs of frames; v / (|v| + 0.1) squashes it.
    """
    if not len(look.pairs):
        return np.zeros(MOTION_WIDTH, np.float32)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    sums = np.zeros((GRID, GRID, 3))
    at = spread(len(look.pairs), 24)
    diagonal = float(np.hypot(*look.pairs.shape[2:]))
    for index in at:
        before, after = look.pairs[index]
        field = flow.calc(before, after, None) / (diagonal * look.gaps[index])
        speed = np.linalg.norm(field, axis=-1, keepdims=True)
        sums += cells(np.concatenate([field, speed], axis=-1), GRID)
    mean = sums / len(at)
    return (mean / (np.abs(mean) + HALF_SPEED)).ravel().astype(np.float32)


def cells(picture: Float[np.ndarray, "h w c"], side: int) -> Float[np.ndarray, "side side c"]:
    """Mean of each cell of a ``side`` × ``side`` grid; the picture is at least as large."""
    rows, columns = (np.arange(side) * size // side for size in picture.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1)
    heights = np.diff([*rows, picture.shape[0]])
    widths = np.diff([*columns, picture.shape[1]])
    return sums / (heights[:, None, None] * widths[None, :, None])


def unit(vectors: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "... d"]:
    """Rows of length 1; a row of zeros becomes the first axis."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    axis = np.zeros(vectors.shape[-1], vectors.dtype)
    axis[0] = 1
    return np.where(length > 0, vectors / np.where(length > 0, length, 1), axis)


def join(
    appearance: Float[np.ndarray, " a"], motion: Float[np.ndarray, " m"], share: float
) -> Float[np.ndarray, " d"]:
    """One unit vector; the cosine of two is that of the appearances and of the motions, weighed
    1 - ``share`` to ``share``.

    ``motion`` (components in (-1, 1)) is scaled into the unit ball and completed by one coordinate,
    so that clips without motion agree in it.
    """
    inside = motion / np.sqrt(len(motion))
    rest = np.sqrt(max(0.0, 1.0 - float(inside @ inside)))
    parts = (np.sqrt(1 - share) * unit(appearance), np.sqrt(share) * np.append(inside, rest))
    return unit(np.concatenate(parts)).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Whitening:
    """``apply`` centres by ``mean`` (``c``) and multiplies by ``matrix`` (``c a``)."""

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, features: Float[np.ndarray, "... c"]) -> Float[np.ndarray, "... a"]:
        return (features - self.mean) @ self.matrix


def save_whitening(path: Path, whitening: Whitening) -> None:
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file(vars(whitening), temporary)


def load_whitening(path: Path) -> Whitening:
    from safetensors.numpy import load_file

    tensors = {name: array.astype(np.float32) for name, array in load_file(path).items()}
    return Whitening(mean=tensors["mean"], matrix=tensors["matrix"])


def signature(thumbs: UInt8[np.ndarray, "t v u"]) -> UInt8[np.ndarray, "t n"]:
    """Every frame as an 8×8 grey thumbnail, for `openwfm.curation.align`."""
    small = cells(np.moveaxis(thumbs, 0, -1).astype(np.float32), SIGNATURE_SIDE)
    return np.rint(small).astype(np.uint8).reshape(SIGNATURE_SIDE**2, len(thumbs)).T.copy()


class EmbedClip:
    """Sets the clip's embedding.

    An embedding that `ClassifyContent` made with the same encoder is taken over.
    """

    name = "embed"
    accepts = Clip

    def __init__(self, config: EncoderConfig | None = None) -> None:
        self.config: EncoderConfig = config or EfficientNetConfig()
        self.encoder: Encoder | None = None

    def setup(self) -> None:
        self.encoder = self.config.open()

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None
        assert self.encoder is not None and record.media.look is not None
        look, embedding = record.media.look, record.media.embedding
        earlier = record.evidence.get("content", {}).get("encoder")
        if embedding is None or earlier != self.encoder.name:
            embedding = self.encoder.embed(look)
        media = replace(record.media, embedding=embedding)
        facts = {"encoder": self.encoder.name, "width": self.encoder.width}
        return [replace(record, media=media, evidence={**record.evidence, self.name: facts})]
