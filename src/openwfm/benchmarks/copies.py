"""Do copies of clips come out as copies, and do clips that only look alike stay?

Distinct clips, among them hard negatives (one simulated scene with one property changed, drawn
cards and charts of one make, successive pieces of one natural shot), each copied in ways that
happen to videos. Every copy carries its original's number, so recall and precision are counted
exactly.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from jaxtyping import UInt8

from openwfm.benchmarks.footage import Piece, decode
from openwfm.curation.align import align
from openwfm.curation.features import Encoder, signature
from openwfm.curation.semdedup import find_duplicate_groups, preference
from openwfm.curation.watch import look_of

Frames = UInt8[np.ndarray, "t h w 3"]


def exact(frames: Frames) -> Frames:
    return frames


def reencoded(frames: Frames, crf: int = 33) -> Frames:
    """Through H.264 at a low bitrate."""
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"crf": str(crf), "preset": "veryfast"}
        for index, array in enumerate(frames[:, :height, :width]):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return decode(buffer.getvalue())


def rescaled(frames: Frames) -> Frames:
    """Half the size, by area, and another encoding."""
    height, width = (side // 4 * 2 for side in frames.shape[1:3])
    small = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        .reformat(width=width, height=height, interpolation="AREA")
        .to_ndarray(format="rgb24")
        for array in frames
    ]
    return reencoded(np.stack(small), crf=23)


def brighter(frames: Frames) -> Frames:
    return np.clip(frames.astype(np.float32) * 1.15 + 18, 0, 255).astype(np.uint8)


def darker(frames: Frames) -> Frames:
    return (frames.astype(np.float32) * 0.7).astype(np.uint8)


def trimmed(frames: Frames) -> Frames:
    """Without its first tenth and last twentieth."""
    return frames[len(frames) // 10 : len(frames) - len(frames) // 20]


def mirrored(frames: Frames) -> Frames:
    return frames[:, :, ::-1]


CHANGES: Mapping[str, Callable[[Frames], Frames]] = {
    change.__name__: change
    for change in (exact, reencoded, rescaled, brighter, darker, trimmed, mirrored)
}
# A mirrored clip is another clip (left is right, writing is unreadable) unless asked otherwise.
NOT_A_COPY = ("mirrored",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """``change`` is '' for an original; ``original`` its number."""

    original: int
    change: str
    pixels: int
    embedding: np.ndarray
    signature: np.ndarray


def plant(
    pieces: Iterable[Piece], encoder: Encoder, per_clip: int = 2
) -> tuple[list[Embedded], list[str]]:
    """Originals and ``per_clip`` copies of each, the changes by turns; and the originals' names."""
    found, names, changes = [], [], list(CHANGES.items())
    for number, piece in enumerate(pieces):
        names.append(piece.name)
        turns = [(number * per_clip + turn) % len(changes) for turn in range(per_clip)]
        for change, make in [("", exact), *(changes[turn] for turn in turns)]:
            frames = make(piece.frames)
            look = look_of(frames, len(frames), piece.fps)
            found.append(
                Embedded(
                    original=number,
                    change=change,
                    pixels=frames.shape[1] * frames.shape[2],
                    embedding=encoder.embed(look),
                    signature=signature(look.thumbs),
                )
            )
    return found, names


def judge(clips: Sequence[Embedded], epsilon: float, *, verified: bool = True) -> dict:
    """Recall of copies (removed with a leader of the same original) by change, and precision.

    Originals are preferred, so each copy should go. Precision is the share of removed clips whose
    leader is the same film; mirrored copies count as films of their own.
    """
    vectors = np.stack([clip.embedding for clip in clips])
    order = preference(np.array([[clip.pixels, clip.change == ""] for clip in clips], float))

    def same(first: int, second: int) -> bool:
        return align(clips[first].signature, clips[second].signature).same

    found = find_duplicate_groups(
        vectors, order, epsilon=epsilon, verify=same if verified else None
    )
    films = [(clip.original, clip.change in NOT_A_COPY) for clip in clips]
    removed = np.flatnonzero(~found.kept).tolist()
    right = {position for position in removed if films[position] == films[found.leader[position]]}
    recall: dict[str, list[int]] = {}
    for position, clip in enumerate(clips):
        if clip.change and clip.change not in NOT_A_COPY:
            recall.setdefault(clip.change, []).append(int(position in right))
    copies = [value for values in recall.values() for value in values]
    return {
        "epsilon": epsilon,
        "verified": verified,
        "copies": len(copies),
        "recall": round(float(np.mean(copies)), 4),
        "recall_by_change": {
            name: [sum(values), len(values)] for name, values in sorted(recall.items())
        },
        "removed": len(removed),
        "precision": round(len(right) / len(removed), 4) if removed else 1.0,
    }
