"""Every clip becomes an mp4 of its own: H.264, of a usual shape, at a constant frame rate."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from openwfm.curation.frames import read_frames
from openwfm.curation.look import LookTaker, Scalers
from openwfm.curation.record import Clip, Media, Record, RejectedError, VideoFacts

ID_LENGTH = 20
SHAPES = ((1, 1), (4, 3), (3, 4), (16, 9), (9, 16))
MULTIPLE = 16
# Options of each encoder at a quality; keyframes stay on the grid that random access relies on.
CODECS: dict[str, Callable[[int], dict[str, str]]] = {
    "libx264": lambda quality: {
        "preset": "veryfast",
        "crf": str(quality),
        "sc_threshold": "0",
        "mbtree": "0",  # see openwfm.video: its bytes are not deterministic
    },
    "h264_nvenc": lambda quality: {
        "preset": "p4",
        "rc": "vbr",
        "cq": str(quality),
        "no-scenecut": "1",
        "forced-idr": "1",
    },
}


class Transcode:
    """Centre crop, area resize and resampling by time stamps.

    ``aspect`` is ``square``, or ``keep`` for the nearest of `SHAPES` (see `clip_size`). Rotation
    flags and non-square pixels are applied, any pixel format becomes 8-bit 4:2:0. The clips of a
    source are asked for in order, so one pass over the file decodes all of them. The scores
    ``seconds``, ``source_fps`` and ``source_side`` (shorter, in pixels) are for the policy.
    """

    name = "transcode"
    accepts = Clip

    def __init__(
        self,
        *,
        size: int,
        fps: float,
        crf: int,
        keyframe_interval: int,
        max_seconds: float,
        aspect: str = "square",
        codec: str = "libx264",
    ) -> None:
        self.codec = codec
        self.size, self.aspect = size, aspect
        self.rate = Fraction(fps).limit_denominator(1001)
        self.crf = crf
        self.keyframe_interval = keyframe_interval
        self.max_frames = math.ceil((max_seconds + 1) * self.rate)
        self._file: Path | None = None
        self._position = 0
        self._frames: Iterator[tuple[float, VideoFrame]] = iter(())
        self._scalers: Scalers = {}

    def setup(self) -> None:
        """Raises ValueError when a card's encoder cannot be opened here."""
        if self.codec != "libx264":
            probe(self.codec)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.origin is not None
        facts, file = record.origin.facts, record.origin.file
        assert facts is not None and file is not None
        self._seek(file, record.start_frame)
        wanted = _nearest(record.seconds * self.rate)
        if wanted > self.max_frames:
            raise RejectedError("timestamp_gap", f"{record.seconds:.1f} s between few frames")
        taker = LookTaker(max(wanted, 1), float(self.rate), facts, self._scalers)
        try:
            frames = _seen(self._resample(record), taker)
            width, height = self._size(facts)
            video, count = self._encode(self._scale(frames, facts), width, height)
        except BaseException:
            self._file = None  # the decoder's position is unknown: begin again for the next clip
            raise
        clip = replace(
            record,
            id=hashlib.sha256(video).hexdigest()[:ID_LENGTH],
            fps=float(self.rate),
            width=width,
            height=height,
            num_frames=count,
            num_bytes=len(video),
            scores={**record.scores, **_facts_as_scores(record, facts)},
            media=Media(video=video, look=taker.finish()),
        )
        return [clip]

    def _seek(self, file: Path, frame: int) -> None:
        if file != self._file or frame < self._position:
            self._file, self._position, self._frames = file, 0, read_frames(file)
            self._scalers = {}
        for _ in islice(self._frames, frame - self._position):
            pass
        self._position = frame

    def _resample(self, clip: Clip) -> Iterator[VideoFrame]:
        """The source frame that is nearest in time to each tick of the output's clock."""
        held, count = None, 0
        for time, frame in islice(self._frames, clip.end_frame - clip.start_frame):
            self._position += 1
            due = _nearest((time - clip.start_seconds) * self.rate)
            while held is not None and count < due:
                yield held
                count += 1
            held = frame
        if self._position < clip.end_frame or held is None:
            raise RejectedError("truncated", f"the file ends before frame {clip.end_frame}")
        while count < _nearest(clip.seconds * self.rate):
            yield held
            count += 1

    def _scale(self, frames: Iterator[VideoFrame], facts: VideoFacts) -> Iterator[VideoFrame]:
        """Through the filter graph; a frame that comes several times goes through it once."""
        graph: Graph | None = None
        last: VideoFrame | None = None
        scaled: VideoFrame | None = None
        for frame in frames:
            if scaled is None or frame is not last:
                graph = graph or self._graph(frame, facts)
                graph.push(frame)
                pulled = graph.pull()
                assert isinstance(pulled, VideoFrame)
                # Or the encoder would copy the source's choice of keyframes.
                pulled.pict_type = PictureType.NONE
                last, scaled = frame, pulled
            yield scaled

    def _size(self, facts: VideoFacts) -> tuple[int, int]:
        """Width and height of the clip as it is shown."""
        if self.aspect == "square":
            return self.size, self.size
        width, height = facts.width * facts.pixel_aspect, float(facts.height)
        return clip_size(*((height, width) if facts.rotation % 180 else (width, height)), self.size)

    def crop(self, facts: VideoFacts) -> tuple[int, int, int, int]:
        """What is cut from the middle (width, height) and what it is scaled to, in stored pixels.

        Both are before the rotation.
        """
        across, down = self._size(facts)[:: -1 if facts.rotation % 180 else 1]
        scale = min(facts.width * facts.pixel_aspect / across, facts.height / down)
        width = max(1, round(scale * across / facts.pixel_aspect))
        return width, max(1, round(scale * down)), across, down

    def _encode(self, frames: Iterator[VideoFrame], width: int, height: int) -> tuple[bytes, int]:
        buffer, count = io.BytesIO(), 0
        with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as out:
            stream = out.add_stream(self.codec, rate=self.rate)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.gop_size, context.max_b_frames = self.keyframe_interval, 0
            context.thread_count, context.time_base = 1, 1 / self.rate
            context.options = CODECS[self.codec](self.crf)
            for frame in frames:
                frame.pts, frame.time_base = count, 1 / self.rate
                out.mux(stream.encode(frame))
                count += 1
            if not count:
                raise RejectedError("no_frames", f"no frame at {float(self.rate)} fps")
            out.mux(stream.encode())
        return buffer.getvalue(), count

    def _graph(self, frame: VideoFrame, facts: VideoFacts) -> Graph:
        """crop → scale → rotate → yuv420p, in ffmpeg's own memory."""
        width, height, *target = self.crop(facts)
        turn = {0: [], 90: ["cclock"], 180: ["clock", "clock"], 270: ["clock"]}[facts.rotation]
        graph = Graph()
        graph.threads = 1
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format,
                time_base=Fraction(1, 90000),
            ),
            graph.add("crop", f"{width}:{height}"),
            graph.add("scale", f"{target[0]}:{target[1]}:flags=area:out_range=tv"),
            *(graph.add("transpose", direction) for direction in turn),
            graph.add("setsar", "1"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]  # fmt: skip
        graph.link_nodes(*nodes).configure()
        return graph


def probe(codec: str) -> None:
    """Raises ValueError when this ffmpeg has no such encoder, or it finds no card."""
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as out:
            stream = out.add_stream(codec, rate=24)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
            out.mux(stream.encode(VideoFrame(256, 256, "yuv420p")))
            out.mux(stream.encode())
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ValueError(
            f"curation.codec={codec}: this machine's ffmpeg cannot open it ({error}); it needs an "
            "NVIDIA card, its driver and an ffmpeg that was built for it; libx264 always works"
        ) from error


def clip_size(width: float, height: float, side: int) -> tuple[int, int]:
    """Width and height of the nearest of `SHAPES`, by the ratio of ratios.

    The shorter side is ``side``, the longer one a multiple of 16 (so its ratio is nearly the
    shape's).
    """
    across, down = min(
        SHAPES, key=lambda shape: abs(math.log(width / height * shape[1] / shape[0]))
    )
    longer = _nearest(side * max(across, down) / min(across, down) / MULTIPLE) * MULTIPLE
    return (longer, side) if across >= down else (side, longer)


def _facts_as_scores(clip: Clip, facts: VideoFacts) -> dict[str, float]:
    return {
        "seconds": round(clip.seconds, 6),
        "source_fps": facts.fps,
        "source_side": round(min(facts.width * facts.pixel_aspect, facts.height), 6),
    }


def _seen(frames: Iterator[VideoFrame], taker: LookTaker) -> Iterator[VideoFrame]:
    for frame in frames:
        taker.see(frame)
        yield frame


def _nearest(value: float | Fraction) -> int:
    return math.floor(value + 0.5)
