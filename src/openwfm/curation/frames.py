"""Reading video files that may be anything: decoded frames with their times, or why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from openwfm.curation.record import RejectedError

# Real containers only: playlists (hls, concat, dash) and pipes could name other files or hosts.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,"
    "h264,hevc,av1,ivf,obu,m4v,mjpeg,dv,gxf,mxf,nut,yuv4mpegpipe,rm,swf"
)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the file's first video stream for decoding on one thread.

    Raises RejectedError with reason ``empty``, ``unreadable``, ``not_a_video``,
    ``no_video_stream`` or ``no_decoder``.
    """
    try:
        if path.stat().st_size == 0:
            raise RejectedError("empty", "the file has no bytes")
        container = av.open(
            str(path),
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS},
        )
    except PermissionError as error:
        raise RejectedError("unreadable", error.strerror or "no permission") from error
    except (av.FFmpegError, OSError) as error:
        raise RejectedError("not_a_video", error.strerror or type(error).__name__) from error
    with container:
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams}))
            raise RejectedError("no_video_stream", f"the file holds {kinds or 'nothing'}")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise RejectedError("no_decoder", "this ffmpeg cannot decode the video's codec")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream


def read_frames(path: Path) -> Iterator[tuple[float, VideoFrame]]:
    """Seconds and frame of every frame in display order; one frame is in memory at a time.

    Frames without a time stamp count at the stream's average rate. Raises RejectedError with reason
    ``corrupt`` where the decoder fails and ``bad_timestamps`` where time runs backwards.
    """
    with open_video(path) as (container, stream):
        rate = stream.average_rate or Fraction(25)
        previous = -np.inf
        try:
            for index, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    raise RejectedError("corrupt", f"frame {index} is damaged")
                time = float(index / rate) if frame.time is None else float(frame.time)
                if time < previous:
                    raise RejectedError(
                        "bad_timestamps", f"frame {index} is before frame {index - 1}"
                    )
                previous = time
                yield time, frame
        except (av.FFmpegError, OSError) as error:
            raise RejectedError("corrupt", error.strerror or type(error).__name__) from error


def small_rgb(frames: Iterator[VideoFrame], width: int, height: int) -> Iterator[np.ndarray]:
    """Each frame as uint8 ``height width 3``, scaled with ffmpeg's default bicubic filter."""
    scaler = VideoReformatter()
    for frame in frames:
        small = scaler.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        yield small.to_ndarray()
