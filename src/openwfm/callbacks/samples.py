"""Look at what a module makes while it trains: pictures and videos in the run folder and in W&B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import lightning as L
import torch
from jaxtyping import UInt8
from torch import Tensor

from openwfm.callbacks.ema import averaged_module
from openwfm.data.batch import VideoBatch
from openwfm.video import side_by_side, stack_rows, strip, to_uint8, write_png, write_video


@runtime_checkable
class Samples(Protocol):
    """What a LightningModule offers so that its samples can be watched.

    Named rows (for instance ``real``, ``generated``) of videos ``b c t h w`` in [-1, 1], all of
    equal shape. It must draw from its own generators, never from the global one.
    """

    def sample_videos(self, batch: VideoBatch) -> Mapping[str, Tensor]: ...


class SampleVideos(L.Callback):
    """Every ``every_n_steps``: ``folder/step_NNNNNNN.{png,mp4}``, and the video to W&B.

    Shows the first ``num_videos`` clips of the first validation batch (of the training batch as
    long as there has been no validation), made by the averaged weights where there are such.
    """

    def __init__(self, *, folder: str, every_n_steps: int = 1000, num_videos: int = 4) -> None:
        if every_n_steps < 1:
            raise ValueError(f"callbacks.samples.every_n_steps={every_n_steps}: must be at least 1")
        if num_videos < 1:
            raise ValueError(f"callbacks.samples.num_videos={num_videos}: must be at least 1")
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.num_videos = num_videos
        self._batch: VideoBatch | None = None
        self._last_step = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Samples):
            raise ValueError(
                f"callbacks.samples: {type(pl_module).__name__} has no sample_videos(batch); "
                "remove the callback or add it"
            )

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: VideoBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._batch is None and batch_idx == 0:
            self._batch = first_clips(batch, self.num_videos)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: VideoBatch,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        due = step % self.every_n_steps == 0 and step != self._last_step
        if not due or not trainer.is_global_zero:
            return
        self._last_step = step
        module = averaged_module(trainer, pl_module)
        shown = (self._batch or first_clips(batch, self.num_videos)).to(pl_module.device)
        training = module.training
        module.eval()
        with torch.no_grad():
            rows = self.rows(module, shown, step)
        module.train(training)
        self._write(trainer, step, rows, float(shown.fps[0]))

    def rows(self, module: L.LightningModule, batch: VideoBatch, step: int) -> Mapping[str, Tensor]:
        """Named videos; the module is in eval mode."""
        return cast(Samples, module).sample_videos(batch)

    def _write(self, trainer: L.Trainer, step: int, rows: Mapping[str, Tensor], fps: float) -> None:
        videos = {name: [to_uint8(clip) for clip in clips] for name, clips in rows.items()}
        stem = self.folder / f"step_{step:07d}"
        write_png(stem.with_suffix(".png"), picture(videos))
        grid = video_grid(videos)
        write_video(stem.with_suffix(".mp4"), grid, fps, {"rows": list(videos), "step": step})
        for logger in trainer.loggers:
            if type(logger).__name__ == "WandbLogger":
                _log_to_wandb(logger, step, stem.with_suffix(".mp4"))


def first_clips(batch: VideoBatch, count: int) -> VideoBatch:
    """The first ``count`` clips of a batch."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{n: v[:count] for n, v in values.items() if v is not None})


def picture(videos: Mapping[str, list[UInt8[Tensor, "t h w c"]]]) -> UInt8[Tensor, "h w c"]:
    """Film strips: for each clip, one strip per row name, below each other."""
    clips = zip(*videos.values(), strict=True)
    return stack_rows([strip(video, every=2) for clip in clips for video in clip])


def video_grid(
    videos: Mapping[str, list[UInt8[Tensor, "t h w c"]]],
) -> UInt8[Tensor, "t h w c"]:
    """One row of clips per row name, in one video of even size."""
    grid = torch.cat([side_by_side(clips) for clips in videos.values()], dim=1)
    odd_height, odd_width = grid.shape[1] % 2, grid.shape[2] % 2
    return torch.nn.functional.pad(grid, (0, 0, 0, odd_width, 0, odd_height))


def _log_to_wandb(logger: Any, step: int, path: Path) -> None:
    import wandb

    # A path, not an array: wandb encodes arrays with moviepy, which is no dependency of ours.
    video = wandb.Video(str(path), format="mp4")
    logger.experiment.log({"samples/videos": video, "trainer/global_step": step})
