"""A world of several cameras, imagined together (arXiv 2501.03575, section 6.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.members import read_trajectory
from openwfm.diffusion import DiffusionWorldModel
from openwfm.diffusion.control import Controls
from openwfm.diffusion.views import fold_views, unfold_views
from openwfm.files import read_json, sha256_file
from openwfm.posttraining.driving import GRID, VIEWS, checked_trajectory
from openwfm.tokenizer import VideoTokenizer
from openwfm.video import to_uint8, write_video
from openwfm.weights import CONFIG
from openwfm.world.diffusion import DiffusionWorld
from openwfm.world.frames import condition_pixels
from openwfm.world.generation import Generation, Provenance, Sampling, WorldFacts
from openwfm.world.long import Chunking

PICTURES = (".mp4", ".png", ".jpg")
Frames = Mapping[str, Tensor | Path | str]


@dataclass(frozen=True, kw_only=True)
class ViewGeneration(Generation):
    """``video`` is the grid; ``views`` are the videos it is made of, by name."""

    views: Mapping[str, Float[Tensor, "c t h w"]]

    def save(self, path: Path | str) -> None:
        """The grid at ``path``, and each view beside it, as ``<stem>.<view>.mp4``."""
        super().save(path)
        for name, video in self.views.items():
            beside = Path(path).with_suffix(f".{name}.mp4")
            write_video(beside, to_uint8(video), self.fps, {**self.provenance, "view": name})


class MultiViewWorld(DiffusionWorld):
    """``views`` are names in the order of the network; all are given, all are made."""

    views: tuple[str, ...]

    @classmethod
    def of(
        cls, model: DiffusionWorldModel, tokenizer: VideoTokenizer, facts: WorldFacts, folder: Path
    ) -> MultiViewWorld:
        """Names are those of the training data, else the release's for six views."""
        world, count = cls(model, tokenizer, facts), model.net.config.num_views
        named = tuple((read_json(folder / CONFIG).get("data") or {}).get("views") or ())
        world.views = named or VIEWS
        if len(world.views) != count:
            raise ValueError(f"{folder / CONFIG}: data.views={world.views}: must be {count} names")
        return world

    @torch.inference_mode()
    def reconstruct(self, videos: Float[Tensor, "b v c t h w"]) -> Float[Tensor, "b v c t h w"]:
        return super().reconstruct(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])

    @torch.inference_mode()
    def predict_views(
        self,
        frames: Float[Tensor, "b v c n h w"] | None,
        *,
        text: Float[Tensor, "b v n d"] | None,
        trajectory: Float[Tensor, "b 64 3"] | None,
        num_frames: int,
        fps: Float[Tensor, " b"],
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "b v c t h w"]:
        """Futures of all views, in [-1, 1]; given frames come back exactly. Raises ValueError for
        another number of views, and for a trajectory that is missing or that nothing follows."""
        count, device = len(self.views), self.device
        condition, size = None, None
        if frames is not None:
            if frames.ndim != 6 or frames.shape[1] != count:
                raise ValueError(
                    f"frames: shape {tuple(frames.shape)}: must be (batch, {count} views, 3, "
                    f"frames, rows, columns): {', '.join(self.views)}"
                )
            latents = self.tokenizer.encode(frames.flatten(0, 1).to(device))
            condition = unfold_views(latents, count)
        elif self.facts.size is not None:
            ratio = self.tokenizer.config.spatial_compression
            size = (self.facts.size[0] // ratio, self.facts.size[1] // ratio)
        made = self.model.generate_latents(
            condition=condition,
            num_latent_frames=int(self.facts.temporal.latent_frames(num_frames)),
            text=None if text is None else text.to(device),
            fps=fps.to(device),
            seed=seed,
            size=size,
            sampler=self._sampler(sampling),
            controls=self._controls(trajectory),
            progress=progress,
        )
        pixels = self.tokenizer.decode(fold_views(made, count)).clamp(-1, 1).cpu()
        pixels = pixels.unflatten(0, (-1, count))
        if frames is not None:
            pixels[:, :, :, : frames.shape[3]] = frames
        return pixels

    def _controls(self, trajectory: Tensor | None) -> Controls | None:
        if self.model.control is None:
            if trajectory is not None:
                raise ValueError("trajectory: this world follows none")
            return None
        return Controls(trajectory=checked_trajectory(trajectory).to(self.device))

    def generate(  # type: ignore[override]
        self,
        *,
        frames: Frames | Path | str | None = None,
        prompt: str = "",
        prompts: Sequence[str] | None = None,
        trajectory: Tensor | Path | str | None = None,
        num_frames: int | None = None,
        seed: int = 0,
        guidance: float | None = None,
        num_steps: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        fps: float | None = None,
        chunking: Chunking | None = None,
        progress: bool = False,
    ) -> ViewGeneration:
        """All views of a drive. ``frames`` is a video or picture for each view, by name, or a
        folder with ``<view>.mp4`` (or png, jpg); ``prompts`` one for each view, or ``prompt`` for
        all; ``trajectory`` 64 points (a tensor, or a file: npz as in shards, or a json list).

        Raises ValueError naming the view that is missing, or the argument that does not fit.
        """
        if chunking is not None:
            raise ValueError("chunking: a world of several views makes every video in one pass")
        num_frames = num_frames or self.facts.num_frames
        fps = fps or self.facts.fps
        if num_frames is None or fps is None:
            raise ValueError("num_frames, fps: missing: the weights do not say them, so give them")
        self.facts.temporal.latent_frames(num_frames)
        asked = list(prompts) if prompts is not None else [prompt] * len(self.views)
        if len(asked) != len(self.views):
            raise ValueError(
                f"prompts: {len(asked)} of them: must be {len(self.views)}, one a view"
            )
        sampling = Sampling(
            guidance=guidance, num_steps=num_steps, temperature=temperature, top_k=top_k,
            top_p=top_p,
        )  # fmt: skip
        given, source = self._given(frames, num_frames)
        points, path_source = read_path(trajectory)
        embedded = self.embed(asked)
        videos = self.predict_views(
            given,
            text=None if embedded is None else embedded[None],
            trajectory=points,
            num_frames=num_frames,
            fps=torch.tensor([fps], dtype=torch.float32),
            seed=seed,
            sampling=sampling,
            progress=progress,
        )[0]
        provenance = self._provenance(
            seed=seed, prompts=dict(zip(self.views, asked, strict=True)), num_frames=num_frames,
            fps=fps, chunks=None, condition=source, trajectory=path_source,
            sampler=self.settings(sampling),
        )  # fmt: skip
        named = dict(zip(self.views, videos, strict=True))
        return ViewGeneration(video=grid(named), fps=fps, provenance=provenance, views=named)

    def _given(
        self, frames: Frames | Path | str | None, num_frames: int
    ) -> tuple[Float[Tensor, "1 v c n h w"] | None, Provenance]:
        if frames is None:
            condition_pixels(None, num_frames, self.facts)
            return None, {"frames": 0}
        named = frames if isinstance(frames, Mapping) else _in_folder(Path(frames), self.views)
        missing = [view for view in self.views if view not in named]
        if missing or len(named) != len(self.views):
            raise ValueError(
                f"frames: {', '.join(sorted(named))}; missing {', '.join(missing) or 'none'}: "
                f"must be exactly {', '.join(self.views)}"
            )
        parts = [condition_pixels(named[view], num_frames, self.facts) for view in self.views]
        videos = [video for video, _ in parts if video is not None]
        if len({video.shape for video in videos}) != 1:
            raise ValueError("frames: views of different lengths or sizes: must be equal")
        facts = {view: source for view, (_, source) in zip(self.views, parts, strict=True)}
        return torch.stack(videos)[None], {"frames": videos[0].shape[1], "views": facts}


def _in_folder(folder: Path, views: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"frames={folder}: must be a folder with {views[0]}.mp4 and so on")
    found = ((view, folder / f"{view}{ending}") for view in views for ending in PICTURES)
    return {view: path for view, path in found if path.is_file()}


def read_path(
    source: Tensor | Path | str | None,
) -> tuple[Float[Tensor, "1 64 3"] | None, dict[str, Any] | None]:
    """Points of a trajectory, and what provenance says of it."""
    if source is None:
        return None, None
    if isinstance(source, Tensor):
        return source.float()[None], {"points": len(source)}
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"trajectory={path}: no such file")
    if path.suffix == ".npz":
        points = read_trajectory(path.read_bytes(), str(path))
    else:
        points = np.asarray(read_json(path), dtype=np.float64)
    return torch.from_numpy(points).float()[None], {"sha256": sha256_file(path), "file": path.name}


def grid(views: Mapping[str, Float[Tensor, "c t h w"]]) -> Float[Tensor, "c t H W"]:
    """As the release lays out six views, two rows of three; others in one row."""
    rows = GRID if set(views) == set(VIEWS) else (tuple(views),)
    return torch.cat([torch.cat([views[name] for name in row], dim=3) for row in rows], dim=2)
