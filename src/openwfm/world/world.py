"""What every world answers to, whatever network is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.files import read_json
from openwfm.provenance import code_state, package_versions
from openwfm.shapes import Temporal
from openwfm.tokenizer import VideoTokenizer
from openwfm.video import to_uint8, write_video
from openwfm.weights import CONFIG, TENSORS
from openwfm.world.frames import condition_pixels
from openwfm.world.long import Chunk, Chunking, chunk_facts, chunk_prompts

Provenance = dict[str, Any]
TOKEN_SAMPLING = ("temperature", "top_k", "top_p")  # fields of `Sampling` for autoregression


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A generated video ``c t h w`` in [-1, 1] and what made it.

    The first ``provenance["condition"]["frames"]`` frames are the given ones, not generated.
    ``guardrails`` is None: no guardrail has looked at it.
    """

    video: Float[Tensor, "c t h w"]
    fps: float
    provenance: Provenance
    guardrails: None = None

    def save(self, path: Path | str) -> None:
        """An mp4 that carries its provenance (`openwfm.video.read_provenance`)."""
        write_video(path, to_uint8(self.video), self.fps, self.provenance)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Overrides of how a world samples; None keeps what its weights say.

    The first two and the last are for diffusion, the others for autoregression.
    """

    guidance: float | None = None
    num_steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    chunking: Chunking | None = None

    def __post_init__(self) -> None:
        if self.guidance is not None and self.guidance < 0:
            raise ValueError(f"guidance={self.guidance}: must not be negative (0 is off)")
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError(f"num_steps={self.num_steps}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class WorldFacts:
    """What a world was trained for. ``size``, ``num_frames`` and ``fps`` are None where
    the weights do not say.
    ``max_condition`` counts latent frames; ``size`` is rows, columns.
    """

    temporal: Temporal
    max_condition: int
    needs_frames: bool
    weights_sha256: dict[str, str]
    size: tuple[int, int] | None = None
    num_frames: int | None = None
    fps: float | None = None
    reads_text: bool = True


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
    ) -> Generation:
        """A video that continues ``frames`` (pixels in [-1, 1], a video file or a picture).

        The condition is the last 1 + ratio·(n - 1) frames, with the largest n that the world was
        trained for and that fits; frames of another size are centre-cropped and resized. The
        output begins with these frames, as given; ``num_frames`` (1 + ratio·n) counts them.
        ``num_frames`` and ``fps`` default to the file's (fps) or to training's.

        A diffusion world makes videos longer than training's in chunks (`openwfm.world.long`);
        ``prompts`` are then one a chunk, the last one for the rest, and ``chunking`` says how.

        Raises ValueError naming the argument that does not fit.
        """
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
