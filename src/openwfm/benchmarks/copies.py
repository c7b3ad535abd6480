"""Do copies of clips come out as copies, and do clips that only look alike stay?

Distinct clips, among them hard negatives (one simulated scene with one property changed, drawn
cards and charts of one make, successive pieces of one natural shot), each copied in ways that
happen to videos. Every copy carries its original's number, so recall and precision are counted
exactly.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

from openwfm.benchmarks.footage import Piece, decode
from openwfm.curation.align import align, copy_vector
from openwfm.curation.features import Encoder, signature
from openwfm.curation.semdedup import Duplicates, find_duplicate_groups, preference
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


def plant(pieces: Iterable[Piece], encoder: Encoder, per_clip: int = 2) -> Iterator[Embedded]:
    """Originals and ``per_clip`` copies of each, the changes by turns."""
    changes = list(CHANGES.items())
    for number, piece in enumerate(pieces):
        turns = [(number * per_clip + turn) % len(changes) for turn in range(per_clip)]
        for change, make in [("", exact), *(changes[turn] for turn in turns)]:
            frames = make(piece.frames)
            look = look_of(frames, len(frames), piece.fps)
            yield Embedded(
                original=number,
                change=change,
                pixels=frames.shape[1] * frames.shape[2],
                embedding=encoder.embed(look),
                signature=signature(look.thumbs),
            )


def judge(clips: Sequence[Embedded], found: Duplicates) -> dict[str, Any]:
    """Recall of copies (removed with a leader of the same original) by change, and precision.

    Originals are preferred, so each copy should go. Precision is the share of removed clips whose
    leader is the same film; mirrored copies count as films of their own.
    """
    films = [(clip.original, clip.change in NOT_A_COPY) for clip in clips]
    removed = np.flatnonzero(~found.kept).tolist()
    right = {position for position in removed if films[position] == films[found.leader[position]]}
    recall: dict[str, list[int]] = {}
    for position, clip in enumerate(clips):
        if clip.change and clip.change not in NOT_A_COPY:
            recall.setdefault(clip.change, []).append(int(position in right))
    copies = [value for values in recall.values() for value in values]
    return {
        "epsilon": found.epsilon,
        "originals": len({clip.original for clip in clips}),
        "copies": len(copies),
        "recall": round(float(np.mean(copies)), 4),
        "recall_by_change": {
            name: [sum(values), len(values)] for name, values in sorted(recall.items())
        },
        "removed": len(removed),
        "precision": round(len(right) / len(removed), 4) if removed else 1.0,
    }


def compare(
    clips: Sequence[Embedded], embedding_epsilons: Sequence[float], copy_epsilons: Sequence[float]
) -> list[dict[str, Any]]:
    """By copy vectors and by embeddings, with and without confirmation by aligned thumbnails."""
    order = preference(np.array([[clip.pixels, clip.change == ""] for clip in clips], float))
    signatures = [clip.signature for clip in clips]

    def confirmed(first: int, second: int) -> bool:
        return align(signatures[first], signatures[second]).same

    spaces = (
        ("copy vector", np.stack([copy_vector(item) for item in signatures]), copy_epsilons),
        ("embedding", np.stack([clip.embedding for clip in clips]), embedding_epsilons),
    )
    return [
        {"by": name, "confirmed": check is not None}
        | judge(clips, find_duplicate_groups(vectors, order, epsilon=epsilon, verify=check))
        for name, vectors, epsilons in spaces
        for check in (confirmed, None)
        for epsilon in epsilons
    ]
