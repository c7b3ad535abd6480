"""Video files: there and back, and everything that is not one."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openwfm.video import (
    from_uint8,
    png_bytes,
    read_provenance,
    read_video,
    side_by_side,
    stack_rows,
    strip,
    to_uint8,
    write_video,
)


def smooth(frames: int = 9, height: int = 32, width: int = 48) -> torch.Tensor:
    """A gradient that drifts: what H.264 keeps well."""
    t, h, w = torch.meshgrid(
        *(torch.arange(n).float() for n in (frames, height, width)), indexing="ij"
    )
    channels = [128 + 90 * torch.sin((h + shift * t) / 9 + w / 13) for shift in (0.0, 0.5, 1.0)]
    return torch.stack(channels, dim=-1).round().to(torch.uint8)


@pytest.mark.parametrize("fps", [24.0, 12.5, 30000 / 1001])
def test_round_trip(tmp_path, fps):
    video, facts = smooth(), {"seed": 3, "prompt": "ünï — 'quoted' \"text\"", "nested": {"a": [1]}}
    write_video(tmp_path / "v.mp4", video, fps, facts)
    back, rate = read_video(tmp_path / "v.mp4")
    assert back.shape == video.shape and rate == pytest.approx(fps, rel=1e-5)
    error = (back.float() - video.float()).square().mean()
    assert 10 * torch.log10(255**2 / error) > 38  # chroma is halved, so never exact
    assert read_provenance(tmp_path / "v.mp4") == facts


def test_last_frames_only(tmp_path):
    write_video(tmp_path / "v.mp4", smooth(20), 24)
    whole, _ = read_video(tmp_path / "v.mp4")
    assert torch.equal(read_video(tmp_path / "v.mp4", last=7)[0], whole[-7:])
    assert torch.equal(read_video(tmp_path / "v.mp4", last=99)[0], whole)
    with pytest.raises(ValueError, match="last=0"):
        read_video(tmp_path / "v.mp4", last=0)


def test_pixels_survive_both_ranges():
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(to_uint8(from_uint8(values)), values)
    assert from_uint8(values).min() == -1 and from_uint8(values).max() == 1
    assert to_uint8(
        torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2).expand(3, 1, 1, 2)
    ).unique().tolist() == [
        0,
        255,
    ]


@pytest.mark.parametrize(
    ("video", "fps", "words"),
    [
        (torch.zeros(0, 4, 4, 3, dtype=torch.uint8), 24, "0 frames"),
        (torch.zeros(2, 5, 4, 3, dtype=torch.uint8), 24, "even height"),
        (torch.zeros(2, 4, 4, 3), 24, "must be uint8"),
        (torch.zeros(2, 4, 4, 1, dtype=torch.uint8), 24, "must be uint8 of shape"),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), 0, "fps=0"),
    ],
)
def test_what_cannot_be_written(tmp_path, video, fps, words):
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "v.mp4", video, fps)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_video(tmp_path / "v.mp4", smooth(), 24, {"old": 1})
    monkeypatch.setattr("openwfm.video._encode", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_video(tmp_path / "v.mp4", smooth(), 24, {"new": 1})
    assert read_provenance(tmp_path / "v.mp4") == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "v.mp4"
    write_video(path, smooth(), 24, {"a": 1})
    return path.read_bytes()


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_read_or_say_so(whole, tmp_path, data):
    """Bytes flipped and cut anywhere: frames of one size come back, or a ValueError names it."""
    content = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 8)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    for read in (read_video, read_provenance):
        message = complaint(read, path)
        assert message is None or "damaged.mp4: " in message


def complaint(read, path) -> str | None:
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return None


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        for packet in [*stream.encode(sound), *stream.encode(None)]:
            container.mux(packet)
    for name, words in [
        ("absent.mp4", "no such file"),
        ("empty.mp4", "not a readable video"),
        ("text.mp4", "not a readable video"),
        ("sound.mp4", "has no video stream"),
    ]:
        with pytest.raises(ValueError, match=f"{name}: {words}"):
            read_video(tmp_path / name)
    write_video(tmp_path / "plain.mp4", smooth(), 24)
    with pytest.raises(ValueError, match=r"plain.mp4: carries no provenance"):
        read_provenance(tmp_path / "plain.mp4")


def test_rotation_in_the_file_is_applied(tmp_path):
    """Rotation of 90 degrees is a display matrix; patch it into a file that has the identity."""
    write_video(tmp_path / "v.mp4", smooth(2, 32, 48), 24)
    upright, _ = read_video(tmp_path / "v.mp4")
    identity = bytes.fromhex("00010000 00000000 00000000 00000000 00010000".replace(" ", ""))
    quarter = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000".replace(" ", ""))
    content = (tmp_path / "v.mp4").read_bytes()
    track = content.index(b"tkhd")
    content = content[:track] + content[track:].replace(identity, quarter, 1)
    (tmp_path / "turned.mp4").write_bytes(content)
    turned, _ = read_video(tmp_path / "turned.mp4")
    assert turned.shape == (2, 48, 32, 3)
    assert torch.equal(turned, upright.transpose(1, 2).flip(2))  # a quarter turn clockwise


def test_pictures():
    video = smooth(5, 8, 6)
    picture = strip(video, every=2)
    assert picture.shape == (8, 3 * 7 - 1, 3)
    assert torch.equal(picture[:, 7:13], video[2]) and (picture[:, 6] == 255).all()
    assert stack_rows([picture, picture]).shape == (18, 20, 3)
    assert side_by_side([video, video]).shape == (5, 8, 14, 3)
    with av.open(io.BytesIO(png_bytes(picture))) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert (decoded == picture.numpy()).all()
