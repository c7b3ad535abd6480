"""A probe finds what is in a picture, answers what it is asked, and is saved and read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from openwfm.evaluation.probe import Probe, ProbeConfig, Truths, train_probe
from openwfm.weights import save_weights

CONFIG = ProbeConfig(
    values=("x", "y"), mean=(16.0, 16.0), std=(8.0, 8.0), flags=("beyond",), asked=("x", "y"),
    size=(32, 32), width=8,
)  # fmt: skip


def dots(count: int, seed: int) -> tuple[Tensor, Truths]:
    """White squares on grey; asked about an axis: is the square beyond the middle of it?"""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(3, 29, (count, 2), generator=generator)
    pictures = torch.full((count, 32, 32, 3), 100, dtype=torch.uint8)
    for picture, (x, y) in zip(pictures, places.tolist(), strict=True):
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    axis = torch.randint(2, (count,), generator=generator)
    flags = (places.gather(1, axis[:, None]) > 16).float()
    asked = torch.nn.functional.one_hot(axis, 2).float()
    return pictures, Truths(places.float(), flags, asked)


def test_a_probe_reads_values_and_answers_questions(tmp_path: Path) -> None:
    pictures, truths = dots(400, 0)
    probe = train_probe(CONFIG, [pictures, pictures], truths, steps=250, batch_size=64)
    shown, known = dots(100, 1)
    frames = shown.permute(0, 3, 1, 2).float() / 127.5 - 1
    assert float((probe.read(frames) - known.values).abs().mean()) < 1.0
    answers = probe.holds(frames, known.asked) > 0.5
    assert float((answers == known.flags.bool()).float().mean()) > 0.9
    other = known.asked.flip(1)
    assert float((probe.holds(frames, other) > 0.5).ne(answers).float().mean()) > 0.25
    probe.save(tmp_path)
    assert torch.equal(Probe.load(tmp_path).read(frames), probe.read(frames))
    video = frames[:6].view(2, 3, 3, 32, 32).transpose(1, 2)
    assert torch.allclose(probe.read_video(video).flatten(0, 1), probe.read(frames[:6]), atol=1e-4)
    save_weights(tmp_path, {"kind": "world"}, {})
    with pytest.raises(ValueError, match="kind=world: must be probe"):
        Probe.load(tmp_path)


def test_what_a_probe_cannot_be() -> None:
    with pytest.raises(ValueError, match="must be of one length"):
        ProbeConfig(values=("x",), mean=(0.0, 0.0), std=(1.0,))
    with pytest.raises(ValueError, match=r"probe\.std"):
        ProbeConfig(values=("x",), mean=(0.0,), std=(0.0,))
    with pytest.raises(ValueError, match=r"probe\.size"):
        ProbeConfig(values=("x",), mean=(0.0,), std=(1.0,), size=(30, 32))
