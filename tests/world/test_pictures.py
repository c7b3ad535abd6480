"""A world continues one picture: image to world."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from openwfm.video import read_video, to_uint8, write_png
from openwfm.world import World


@pytest.mark.parametrize("ending", ["png", "jpg", "PNG"])
@pytest.mark.parametrize("num_frames", [17, 33])
def test_a_picture_is_continued(run_folder, tmp_path, ending, num_frames):
    """One given frame, exact in the result; the rate is training's, not that of a file format."""
    world = World.load(run_folder)
    picture = torch.arange(32 * 32 * 3).view(32, 32, 3).div(12.1).to(torch.uint8)
    file = tmp_path / f"start.{ending}"
    if ending == "jpg":
        with av.open(str(file), "w", format="image2") as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 77, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    else:
        write_png(file, picture)
    made = world.generate(frames=file, num_frames=num_frames)
    assert made.fps == 24.0 and made.video.shape == (3, num_frames, 32, 32)
    assert made.provenance["condition"]["frames"] == 1
    assert made.provenance["condition"]["file"] == file.name
    pixels, _ = read_video(file)
    assert torch.equal(to_uint8(made.video[:, :1]), pixels)
    same = world.generate(frames=made.video[:, :1], num_frames=num_frames)
    assert torch.equal(same.video, made.video)
