"""What every world answers to, whatever network is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.members import ActionTrack
from openwfm.files import read_json
from openwfm.posttraining.camera_path import CameraPath, given_path
from openwfm.provenance import code_state, package_versions
from openwfm.tokenizer import VideoTokenizer
from openwfm.weights import CONFIG, TENSORS
from openwfm.world.frames import condition_pixels
from openwfm.world.generation import Generation, Provenance, Sampling, WorldFacts
from openwfm.world.long import Chunk, Chunking, chunk_facts, chunk_prompts
from openwfm.world.session import Session


class World(ABC):
    """Predicts futures of clips. Diffusion and autoregressive worlds answer to this interface."""

    facts: WorldFacts
    tokenizer: VideoTokenizer

    @property
    def device(self) -> torch.device:
        """Where both networks are."""
        return next(self.tokenizer.parameters()).device

    @abstractmethod
    def predict(
        self,
        frames: Float[Tensor, "b c n h w"] | None,
        *,
        text: Float[Tensor, "b n d"] | None,
        num_frames: int,
        fps: Float[Tensor, " b"],
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "b c t h w"]:
        """Futures of ``frames`` (n = 1 + ratio·k, of a size the tokenizer takes), in [-1, 1].

        ``fps`` sets the batch size. The given frames come back exactly; the others are decoded
        latents. Sample i depends on (seed, i) alone.
        """

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"] | None:
        """Token embeddings of prompts; None when all are empty."""

    @torch.inference_mode()
    def reconstruct(self, videos: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The same videos through the tokenizer only: what no prediction can beat by much."""
        latents = self.tokenizer.encode(videos.to(self.device))
        return self.tokenizer.decode(latents).clamp(-1, 1).cpu()

    def chunks(self, num_frames: int, sampling: Sampling) -> list[Chunk]:
        """In which parts a video is made; empty: in one pass."""
        if sampling.chunking is not None:
            raise ValueError("chunking: this world makes every video in one pass; leave it out")
        return []

    def render(
        self,
        frames: Float[Tensor, "c n h w"] | None,
        *,
        prompts: Sequence[str],
        num_frames: int,
        fps: float,
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "c t h w"]:
        """As `predict`, of one video; ``prompts`` are those of its chunks."""
        return self.predict(
            None if frames is None else frames[None],
            text=self.embed(prompts[:1]),
            num_frames=num_frames,
            fps=torch.tensor([fps], dtype=torch.float32),
            seed=seed,
            sampling=sampling,
            progress=progress,
        )[0]

    @abstractmethod
    def settings(self, sampling: Sampling) -> dict[str, Any]:
        """The sampler's values, overrides applied."""

    def session(
        self,
        frames: Float[Tensor, "b c n h w"],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> Session:
        """A session that begins with ``frames`` (see `beginning`), a row for each.

        Raises ValueError for a world that takes no actions, and for frames that do not fit.
        """
        raise ValueError("session: this world takes no actions")

    def acted(self, actions: ActionTrack | Path | str) -> World:
        """This world while these actions are done. Raises ValueError for one that takes none."""
        raise ValueError("actions: this world takes none; leave them out")

    def along(self, camera: CameraPath) -> World:
        """This world on a camera's path. Raises ValueError for a world that follows none."""
        raise ValueError("camera: this world follows no camera path; leave it out")

    def beginning(self, source: Tensor | Path | str) -> Float[Tensor, "c n h w"]:
        """The last frames of a video or picture, as many and as large as a session begins with."""
        temporal = self.facts.temporal
        room = self.facts.num_frames or temporal.frames(self.facts.max_condition + 1)
        frames, _ = condition_pixels(source, int(room), self.facts)
        assert frames is not None
        return frames

    def decode_with(
        self, *, precision: str = "fp32", native: bool = False, keep: int | None = None
    ) -> None:
        """How an autoregressive world decodes (`DecodingConfig`); others take the defaults only."""
        if (precision, native, keep) != ("fp32", False, None):
            raise ValueError(
                f"precision={precision}, native={native}, keep={keep}: only for autoregressive "
                "worlds"
            )

    def notes(self, num_frames: int, given: int) -> Provenance:
        """What else provenance says of a video with ``given`` latent frames of condition."""
        return {}

    @staticmethod
    def load(path: Path | str, *, device: torch.device | str = "cpu") -> World:
        """A run folder (with ``weights/``) or a published folder of weights.

        Raises ValueError naming the file when something is missing, broken or of another kind.
        """
        from openwfm.world.autoregressive import AutoregressiveWorld
        from openwfm.world.diffusion import DiffusionWorld

        folder = weights_folder(path)
        config = read_json(folder / CONFIG)
        if config.get("kind") != "world":
            raise ValueError(
                f"{folder / CONFIG}: kind={config.get('kind')}: must be world to generate"
            )
        families: dict[str, Callable[..., World]] = {
            "diffusion": DiffusionWorld.read,
            "autoregressive": AutoregressiveWorld.read,
        }
        family = str(config.get("family"))
        if family not in families:
            raise ValueError(
                f"{folder / CONFIG}: family={family}: must be one of: {', '.join(families)}"
            )
        return families[family](folder, device=device)

    def generate(
        self,
        *,
        frames: Float[Tensor, "c n h w"] | Path | str | None = None,
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
        actions: ActionTrack | Path | str | None = None,
        camera: CameraPath | Path | str | None = None,
        progress: bool = False,
    ) -> Generation:
        """A video that continues ``frames`` (pixels in [-1, 1], a video file or a picture).

        The condition is the last 1 + ratio·(n - 1) frames, with the largest n that the world was
        trained for and that fits; frames of another size are centre-cropped and resized. The
        output begins with these frames, as given; ``num_frames`` (1 + ratio·n) counts them.
        ``num_frames`` and ``fps`` default to the file's (fps) or to training's.

        A diffusion world makes videos longer than training's in chunks (`openwfm.world.long`);
        ``prompts`` are then one a chunk, the last one for the rest, and ``chunking`` says how.
        ``trajectory`` is for worlds of several views (`openwfm.world.multiview`).

        ``actions`` are those of an action world: a track, or its file (npz, json).
        ``camera`` is the path of a camera world: a file, or moves (`camera_path.given_path`); it
        has as many frames as the video.

        Raises ValueError naming the argument that does not fit.
        """
        if trajectory is not None:
            raise ValueError("trajectory: this world follows none")
        if actions is not None:
            return self.acted(actions).generate(
                frames=frames, prompt=prompt, prompts=prompts, num_frames=num_frames, seed=seed,
                guidance=guidance, num_steps=num_steps, temperature=temperature, top_k=top_k,
                top_p=top_p, fps=fps, chunking=chunking, progress=progress,
            )  # fmt: skip
        if camera is not None:
            path = given_path(camera, self.facts.size)
            made = self.along(path).generate(
                frames=frames, prompt=prompt, prompts=prompts,
                num_frames=len(path) if num_frames is None else num_frames,
                seed=seed, guidance=guidance, num_steps=num_steps, temperature=temperature,
                top_k=top_k, top_p=top_p, fps=fps, chunking=chunking, progress=progress,
            )  # fmt: skip
            made.provenance["camera"] = path.facts()
            return made
        num_frames = _default("num_frames", num_frames, self.facts.num_frames)
        self.facts.temporal.latent_frames(num_frames)
        sampling = Sampling(
            guidance=guidance,
            num_steps=num_steps,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            chunking=chunking,
        )
        chunks = self.chunks(num_frames, sampling)
        asked = chunk_prompts(prompt, prompts, max(1, len(chunks)))
        condition, source = condition_pixels(frames, num_frames, self.facts)
        fps = _default("fps", fps, source.pop("fps", None) or self.facts.fps)
        if not 0 < fps <= 1000:
            raise ValueError(f"fps={fps}: must be above 0 and at most 1000")
        video = self.render(
            condition,
            prompts=asked,
            num_frames=num_frames,
            fps=fps,
            seed=seed,
            sampling=sampling,
            progress=progress,
        )
        provenance = self._provenance(
            seed=seed,
            prompt=asked[0],
            prompts=asked if len(asked) > 1 else None,
            num_frames=num_frames,
            fps=fps,
            chunks=chunk_facts(chunks, chunking or Chunking()),
            condition=source,
            sampler=self.settings(sampling),
            **self.notes(num_frames, source.get("latent_frames", 0)),
        )
        return Generation(video=video, fps=fps, provenance=provenance)

    def _provenance(self, **values: Any) -> Provenance:
        code = code_state()
        return {
            "synthetic": True,
            "made_by": "openwfm",
            "weights_sha256": self.facts.weights_sha256,
            "git_commit": code.commit,
            "uncommitted_sha256": code.diff_sha256,
            "packages": package_versions(),
            "condition_pixels": "given frames, not generated",
            **values,
        }


def weights_folder(path: Path | str) -> Path:
    """``path`` itself, or its ``weights/`` when it is a run folder."""
    folder = Path(path)
    for candidate in (folder, folder / "weights"):
        if (candidate / CONFIG).is_file() and (candidate / TENSORS).is_file():
            return candidate
    raise ValueError(
        f"{folder}: neither a run folder (with weights/{CONFIG} and weights/{TENSORS}) nor a "
        f"folder of weights ({CONFIG} and {TENSORS})"
    )


def _default(name: str, value: Any, fallback: Any) -> Any:
    if value is not None:
        return value
    if fallback is None:
        raise ValueError(f"{name}: missing: the weights do not say it, so give it")
    return fallback
