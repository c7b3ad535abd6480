"""Which pixels of a video belong to which token, and what is written about them."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from openwfm.callbacks import TeacherForced
from openwfm.callbacks.teacher_forced import DARK, darken
from openwfm.files import read_json
from openwfm.video import read_provenance


@pytest.mark.parametrize(("latent", "ratio"), [(1, 1), (2, 8), (3, 8), (5, 4), (4, 1)])
def test_every_pixel_follows_its_token(latent, ratio):
    frames = 1 + ratio * (latent - 1)
    right = torch.rand(2, latent, 2, 3, generator=torch.Generator().manual_seed(latent)) > 0.5
    video = torch.rand(2, 3, frames, 8, 12) * 2 - 1
    made = darken(video, right)
    for frame in range(frames):
        token = 0 if frame == 0 else 1 + (frame - 1) // ratio
        for row in range(8):
            for column in range(12):
                kept = right[:, token, row // 4, column // 4, None]
                pixel = video[:, :, frame, row, column]
                expected = torch.where(kept, pixel, (pixel + 1) * DARK - 1)
                torch.testing.assert_close(made[:, :, frame, row, column], expected)


def test_sizes_that_do_not_fit():
    right = torch.ones(1, 3, 2, 2, dtype=torch.bool)
    for size in ((16, 8, 8), (17, 9, 8), (17, 8, 9)):
        with pytest.raises(ValueError, match="must fit 3 latent frames of 2x2"):
            darken(torch.zeros(1, 3, *size), right)


def test_shares_and_videos_are_written(tmp_path, fit, module):
    def sample_tokens(batch):
        truth = torch.zeros(len(batch.key), 2, 4, 4, dtype=torch.long)
        free = truth.clone()
        free[:, 1, :1] = 1
        return {"tokenizer": truth, "teacher_forced": truth, "free": free}

    module.sample_tokens = sample_tokens
    module.decode_tokens = lambda tokens: torch.zeros(len(tokens), 3, 5, 16, 16)
    fit([TeacherForced(folder=str(tmp_path), every_n_steps=10, num_videos=2)], module=module)
    found = read_json(tmp_path / "step_0000010.json")
    assert found["right"] == {
        "tokenizer": [1.0, 1.0], "teacher_forced": [1.0, 1.0], "free": [1.0, 0.75],
    }  # fmt: skip
    rows = read_provenance(tmp_path / "step_0000010.mp4")["rows"]
    assert rows == ["tokenizer", "teacher_forced", "free"]


def test_a_module_without_tokens(tmp_path):
    callback = TeacherForced(folder=str(tmp_path))
    with pytest.raises(ValueError, match="has no sample_tokens"):
        callback.setup(L.Trainer(logger=False), L.LightningModule(), "fit")
