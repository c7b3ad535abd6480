"""The protocol: condition on the start, score the future only, count everything."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.evaluation.futures import (
    CEILING,
    COPY,
    MEAN,
    WORLD,
    FuturesConfig,
    evaluate_futures,
    mean_of,
)
from openwfm.evaluation.reconstruction import MEAN as MEAN_COLOUR
from openwfm.evaluation.reconstruction import TOKENIZER, evaluate_reconstruction
from openwfm.shapes import Temporal
from openwfm.world import Sampling, World, WorldFacts

GIVEN = 9


class OffsetWorld(World):
    """Knows the future up to ``offset`` (of the range [-1, 1]); reconstructs up to ``blur``."""

    def __init__(self, truth: Tensor, offset: float, blur: float = 0.0) -> None:
        self.truth, self.offset, self.blur = truth, offset, blur
        self.calls: list[dict[str, Any]] = []
        self.facts = WorldFacts(
            temporal=Temporal(ratio=8),
            max_condition=2,
            needs_frames=True,
            weights_sha256={},
            size=(16, 16),
            num_frames=17,
            fps=24.0,
        )

    def predict(
        self,
        frames: Tensor | None,
        *,
        text: Tensor | None,
        num_frames: int,
        fps: Tensor,
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Tensor:
        assert frames is not None
        done = sum(call["count"] for call in self.calls)
        self.calls.append({"count": len(frames), "frames": frames, "seed": seed, "text": text})
        return self.truth[done : done + len(frames)] + self.offset

    def embed(self, prompts: Sequence[str]) -> Tensor | None:
        return None

    def reconstruct(self, videos: Tensor) -> Tensor:
        return videos + self.blur

    def settings(self, sampling: Sampling) -> dict[str, Any]:
        return {"num_steps": 1}


def moving_clips(count: int, seed: int = 0) -> Tensor:
    """A bright square on a dark ground that jumps after the condition frames; 17 frames."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.full((count, 3, 17, 16, 16), -0.5)
    for clip in video:
        before, after = torch.randint(0, 11, (2,), generator=generator).tolist()
        clip[:, :GIVEN, 2:6, before : before + 4] = 0.5
        clip[:, GIVEN:, 9:13, after : after + 4] = 0.5
    return video


def batches_of(video: Tensor, size: int = 4, prefix: str = "clip") -> list[VideoBatch]:
    return [
        VideoBatch(
            key=tuple(f"{prefix}{i}" for i in range(start, min(start + size, len(video)))),
            fps=torch.full((len(video[start : start + size]),), 24.0),
            video=video[start : start + size],
        )
        for start in range(0, len(video), size)
    ]


@pytest.fixture
def clips() -> Tensor:
    return moving_clips(10)


def test_scores_in_closed_form(clips):
    """An error of 0.2 in [-1, 1] is 20 dB, everywhere; a reconstruction error of 0.02 is 40 dB."""
    world = OffsetWorld(clips, offset=0.2, blur=0.02)
    report = evaluate_futures(
        world, batches_of(clips), FuturesConfig(), mean_video=mean_of(batches_of(clips))
    )
    assert set(report.rows) == {WORLD, COPY, CEILING, MEAN}
    assert report.rows[WORLD]["psnr"].mean == pytest.approx(20, abs=1e-3)
    assert report.rows[WORLD]["moving_psnr"].mean == pytest.approx(20, abs=1e-3)
    assert report.rows[CEILING]["psnr"].mean == pytest.approx(40, abs=1e-2)
    # The square left 16 pixels and entered 16 others: 32 of 256 are wrong by 0.5 of [0, 1]. ...
    copy = -10 * math.log10(32 / 256 * 0.25)
    assert report.rows[COPY]["psnr"].mean == pytest.approx(copy, abs=1e-3)
    # ... and with their neighbours the moving ones are two squares of 6x6.
    moving = report.rows[COPY]["moving_psnr"]
    assert -10 * math.log10(32 / 72 * 0.25) >= moving.mean >= -10 * math.log10(0.25)
    assert report.differences[f"{WORLD} - {COPY}"]["psnr"].mean == pytest.approx(
        20 - copy, abs=1e-3
    )
    assert report.beats_copy


def test_only_the_future_counts(clips):
    """A world that ruins the condition frames loses nothing."""
    ruined = clips.clone()
    ruined[:, :, :9] = 0.9
    report = evaluate_futures(OffsetWorld(ruined, 0.2), batches_of(clips), FuturesConfig())
    assert report.rows[WORLD]["psnr"].mean == pytest.approx(20, abs=1e-3)
    assert (report.condition_frames, report.future_frames) == (9, 8)
    assert all(len(line) == 8 for lines in report.curves.values() for line in lines.values())
    assert report.curves[WORLD]["psnr"] == pytest.approx([20.0] * 8, abs=1e-3)


@pytest.mark.parametrize(("latents", "given"), [(1, 1), (2, 9)])
def test_the_world_sees_the_condition_and_nothing_else(clips, latents, given):
    world = OffsetWorld(clips, 0.1)
    evaluate_futures(world, batches_of(clips), FuturesConfig(condition_latents=latents))
    seen = torch.cat([call["frames"] for call in world.calls])
    assert torch.equal(seen, clips[:, :, :given])
    seeds = [call["seed"] for call in world.calls]
    assert len(set(seeds)) == len(seeds)


def test_copy_loses_to_itself_by_nothing(clips):
    copied = clips.clone()
    copied[:, :, 9:] = clips[:, :, 8:9]
    report = evaluate_futures(OffsetWorld(copied, 0.0), batches_of(clips), FuturesConfig())
    difference = report.differences[f"{WORLD} - {COPY}"]["moving_psnr"]
    assert difference.mean == difference.low == difference.high == 0
    assert not report.beats_copy


def test_what_is_not_finite_is_rejected_and_counted(clips):
    made = clips.clone()
    made[3, 0, 12, 5, 5] = torch.nan
    real = clips.clone()
    real[7, 0, 0, 0, 0] = torch.inf
    report = evaluate_futures(OffsetWorld(made, 0.2), batches_of(real), FuturesConfig())
    assert (report.num_in, report.num_evaluated) == (10, 8)
    assert report.rejected == {
        "3:clip3": "world model: not finite",
        "7:clip7": "tokenizer reconstruction: not finite",
    }
    assert report.rows[WORLD]["psnr"].mean == pytest.approx(20, abs=1e-3)


def test_clips_without_motion_count_but_not_as_moving(clips):
    still = clips.clone()
    still[2] = still[2, :, :1]
    report = evaluate_futures(OffsetWorld(still, 0.2), batches_of(still), FuturesConfig())
    assert report.rows[WORLD]["psnr"].num_values == 10
    assert report.rows[WORLD]["moving_psnr"].num_values == 9
    assert report.rows[COPY]["psnr"].mean < 100  # one clip of 100 dB, not of infinitely many


def test_windows_of_one_clip_are_one_draw(clips):
    batch = batches_of(clips, size=10)[0]
    alike = [type(batch)(key=("same",) * 5 + ("other",) * 5, fps=batch.fps, video=batch.video)]
    report = evaluate_futures(OffsetWorld(clips, 0.2), alike, FuturesConfig())
    interval = report.rows[COPY]["psnr"]
    assert (interval.num_values, interval.num_groups) == (10, 2)
    assert [example.key for example in report.examples] == ["same", "other"]


def test_json_is_json_and_the_scores_regenerate_it(clips, tmp_path):
    report = evaluate_futures(OffsetWorld(clips, 0.2), batches_of(clips), FuturesConfig())
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["num_in"] == data["num_evaluated"] + len(data["rejected"])
    report.scores.write_csv(tmp_path / "clips.csv")
    lines = (tmp_path / "clips.csv").read_text().splitlines()
    column = lines[0].split(",").index(f"{COPY}/psnr")
    mean = sum(float(line.split(",")[column]) for line in lines[1:]) / 10
    assert mean == pytest.approx(data["rows"][COPY]["psnr"]["mean"], abs=1e-3)


def test_mistakes_are_named(clips):
    world = OffsetWorld(clips, 0.1)
    with pytest.raises(ValueError, match="nothing is left to predict"):
        evaluate_futures(world, batches_of(clips[:, :, :9]), FuturesConfig())
    with pytest.raises(ValueError, match="none of 0 clips"):
        evaluate_futures(world, [], FuturesConfig())
    with pytest.raises(ValueError, match="mean_video: shape"):
        evaluate_futures(
            world, batches_of(clips), FuturesConfig(), mean_video=torch.zeros(3, 1, 2, 2)
        )
    with pytest.raises(ValueError, match="none of 10 clips .*not finite"):
        evaluate_futures(OffsetWorld(clips * torch.nan, 0.1), batches_of(clips), FuturesConfig())
    for values in ({"condition_latents": 0}, {"threshold": 0.0}, {"num_examples": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(values))}="):
            FuturesConfig(**values)


def test_mean_video():
    video = moving_clips(5)
    assert torch.allclose(mean_of(batches_of(video, size=2)), video.mean(dim=0), atol=1e-6)
    with pytest.raises(ValueError, match="no training clips"):
        mean_of([])


def test_reconstruction(clips):
    report = evaluate_reconstruction(lambda video: video + 0.02, batches_of(clips))
    assert report.rows[TOKENIZER]["psnr"].mean == pytest.approx(40, abs=1e-2)
    share = 16 / 256
    flat = -10 * math.log10(0.25 * share * (1 - share))
    assert report.rows[MEAN_COLOUR]["psnr"].mean == pytest.approx(flat, abs=1e-3)
    assert (report.num_in, report.num_evaluated, report.rejected) == (10, 10, {})

    def broken(video: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(video)).view(-1, 1, 1, 1, 1) == 1, torch.nan, video)

    report = evaluate_reconstruction(broken, batches_of(clips, size=10))
    assert (report.num_in, report.num_evaluated) == (10, 9)
    assert report.rejected == {"1:clip1": "not finite"}
