"""Tokenizers side by side on the same clips, and beside JPEG and H.264 at equal bits per pixel.

The protocol of TokenBench (arXiv 2501.03575, section 4.3): PSNR, SSIM, a perceptual distance and
Fréchet distances of frames and of clips, for each compression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from openwfm.evaluation.backbones import ClipBackbone, EfficientNetLite0, ImageBackbone
from openwfm.evaluation.bench_clips import BenchClip, BenchData
from openwfm.evaluation.codecs import H264_CRFS, JPEG_QUALITIES, Coded, at_rate, h264, jpeg
from openwfm.evaluation.metrics import Moments, frechet_distance, psnr, ssim
from openwfm.evaluation.rates import ChannelCounts, entropy_bits, nominal_bits, rounded
from openwfm.evaluation.table import Scores
from openwfm.tokenizer import VideoTokenizer, load_tokenizer
from openwfm.video import to_uint8
from openwfm.world.world import weights_folder

# Widths of the latents' quantiser in standard deviations of their channel, and none.
STEPS = (4.0, 2.0, 1.0, 0.5, 0.25)
PIXELS, BITS = ("psnr", "ssim", "feature distance"), "bits per pixel"
JPEG, H264 = "JPEG", "H.264"


@dataclass(frozen=True, kw_only=True)
class TokenBenchConfig:
    """``tokenizers`` are run folders or folders of weights; they must all accept the clips.

    ``images`` and ``clips`` are the backbones of the Fréchet distances; None: EfficientNet-Lite0.
    """

    tokenizers: tuple[str, ...]
    data: BenchData
    images: ImageBackbone | None = None
    clips: ClipBackbone | None = None
    codecs: bool = True
    seed: int = 0
    num_examples: int = 4
    out: str = "tokenbench"
    device: str = "cpu"

    def __post_init__(self) -> None:
        given = self.tokenizers
        names = (given,) if isinstance(given, str) else tuple(given)
        object.__setattr__(self, "tokenizers", names)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"run={list(names)}: must be one or more different tokenizers")
        if self.num_examples < 0:
            raise ValueError(f"num_examples={self.num_examples}: must not be negative")


@dataclass(eq=False)
class Curve:
    """Points of one coder: ``bits[p]`` of all clips; ``rates[p]`` and scores clip by clip."""

    labels: list[str]
    bits: list[float]
    scores: list[list[float]]

    @classmethod
    def of(cls, labels: Sequence[str]) -> Curve:
        return cls(list(labels), [0.0] * len(labels), [[] for _ in labels])

    def points(self, pixels: int) -> list[dict[str, Any]]:
        return [
            {"point": label, "bits_per_pixel": bits / pixels, "psnr": sum(s) / len(s)}
            for label, bits, s in zip(self.labels, self.bits, self.scores, strict=True)
        ]


@dataclass(eq=False)
class Entrant:
    """A tokenizer under test, and what was collected about it."""

    name: str
    tokenizer: VideoTokenizer
    curve: Curve
    counts: list[ChannelCounts]
    frames: Moments = field(default_factory=Moments)
    clips: Moments = field(default_factory=Moments)
    nominal: float = 0.0
    steps: list[Tensor] = field(default_factory=list)

    @property
    def is_discrete(self) -> bool:
        return self.tokenizer.config.num_codes is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBenchResult:
    """``rows`` by tokenizer; ``curves`` by coder: bits per pixel and PSNR, for the plot.

    ``floors`` are the Fréchet distances of two halves of the real clips, of half as many each.
    """

    num_clips: int
    num_pixels: int
    rows: dict[str, dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]
    scores: Scores
    labels: dict[str, str]
    floors: dict[str, float | None]
    examples: list[tuple[str, dict[str, Tensor]]]


def run_tokenbench(config: TokenBenchConfig, *, progress: bool = False) -> TokenBenchResult:
    """Raises ValueError for folders that are no tokenizers and clips that do not fit one."""
    return _Bench(config).run(progress)


class _Bench:
    def __init__(self, config: TokenBenchConfig) -> None:
        self.config = config
        self.features = EfficientNetLite0()
        self.images = config.images or self.features
        self.clips = config.clips or self.features
        self.entrants = [_entrant(name, config.device) for name in config.tokenizers]
        names = [entrant.name for entrant in self.entrants]
        if len(set(names)) < len(names):
            raise ValueError(f"run: two tokenizers are called {names}: rename their folders")
        self.codecs = {
            JPEG: Curve.of([f"quality {q}" for q in JPEG_QUALITIES]),
            H264: Curve.of([f"crf {q}" for q in H264_CRFS]),
        }
        self.real_frames, self.real_clips = Moments(), Moments()
        self.halves = (Moments(), Moments()), (Moments(), Moments())
        self.scores, self.pixels = Scores(), 0
        self.examples: list[tuple[str, dict[str, Tensor]]] = []

    @torch.inference_mode()
    def run(self, progress: bool) -> TokenBenchResult:
        total = self.config.data.num_clips
        for clip in tqdm(self.config.data, "tokenbench", total, disable=not progress):
            self._take(clip)
        for entrant in self.entrants:
            if not entrant.is_discrete:
                entrant.curve.bits[:-1] = [counts.bits() for counts in entrant.counts]
        return TokenBenchResult(
            num_clips=len(self.scores.keys),
            num_pixels=self.pixels,
            rows={entrant.name: self._row(entrant) for entrant in self.entrants},
            curves={
                name: curve.points(self.pixels)
                for name, curve in (
                    *((self.codecs if self.config.codecs else {}).items()),
                    *((entrant.name, entrant.curve) for entrant in self.entrants),
                )
            },
            scores=self.scores,
            labels={"frames": self.images.label, "clips": self.clips.label},
            floors={
                name: frechet_distance(a, b) if min(a.count, b.count) > 1 else None
                for name, (a, b) in zip(("frames", "clips"), self.halves, strict=True)
            },
            examples=self.examples,
        )

    def _take(self, clip: BenchClip) -> None:
        real = clip.video[None]
        pixels = real[0, 0].numel()
        index = len(self.scores.keys)
        self.pixels += pixels
        self.scores.keys.append(clip.key.split("/")[0])
        frames, clips = self.images.images(real[0].transpose(0, 1)), self.clips.clips(real)
        self.real_frames.add(frames)
        self.real_clips.add(clips)
        self.halves[0][index % 2].add(frames)
        self.halves[1][index % 2].add(clips)
        curves = self._code(clip, pixels) if self.config.codecs else {}
        shown = {"real": clip.video}
        for entrant in self.entrants:
            made, bits = self._reconstruct(entrant, real)
            shown[entrant.name] = made[0]
            self._score(entrant, made, real, bits / pixels, curves)
        if index < self.config.num_examples:
            self.examples.append((clip.key, shown))

    def _code(self, clip: BenchClip, pixels: int) -> dict[str, list[tuple[float, float]]]:
        """(bits per pixel, PSNR) of the clip through the codecs."""
        frames = to_uint8(clip.video).numpy()
        coded: dict[str, list[Coded]] = {
            JPEG: [jpeg(frames, quality) for quality in JPEG_QUALITIES],
            H264: [h264(frames, clip.fps, crf) for crf in H264_CRFS],
        }
        found: dict[str, list[tuple[float, float]]] = {}
        for name, results in coded.items():
            curve = self.codecs[name]
            for point, result in enumerate(results):
                value = float(psnr(result.video[None], clip.video[None]))
                curve.bits[point] += result.bits
                curve.scores[point].append(value)
                found.setdefault(name, []).append((result.bits / pixels, value))
        return found

    def _reconstruct(self, entrant: Entrant, real: Tensor) -> tuple[Tensor, float]:
        tokenizer = entrant.tokenizer
        latents = tokenizer.encode(real.to(self.config.device))
        made = tokenizer.decode(latents).clamp(-1, 1).cpu()
        bits = nominal_bits(tokenizer, latents[0])
        entrant.nominal += bits
        entrant.curve.bits[-1] += bits
        entrant.curve.scores[-1].append(float(psnr(made, real)))
        if entrant.is_discrete:
            entrant.counts[0].add(tokenizer.indices(latents))
            return made, bits
        if not entrant.steps:
            deviation = latents[0].flatten(1).std(1).clamp_min(1e-6)
            entrant.steps = [factor * deviation for factor in STEPS]
        for point, step in enumerate(entrant.steps):
            symbols, coarse = rounded(latents[0], step)
            entrant.counts[point].add(symbols)
            again = tokenizer.decode(coarse[None]).clamp(-1, 1).cpu()
            entrant.curve.scores[point].append(float(psnr(again, real)))
        return made, bits

    def _score(
        self,
        entrant: Entrant,
        made: Tensor,
        real: Tensor,
        rate: float,
        curves: dict[str, list[tuple[float, float]]],
    ) -> None:
        name, scores = entrant.name, self.scores
        scores.add(name, "psnr", psnr(made, real))
        scores.add(name, "ssim", ssim(made, real))
        scores.add(name, "feature distance", self.features.distance(made, real))
        for codec, points in curves.items():
            rates, values = zip(*points, strict=True)
            scores.add(name, codec, torch.tensor([at_rate(rates, values, rate)]))
        entrant.frames.add(self.images.images(made[0].transpose(0, 1)))
        entrant.clips.add(self.clips.clips(made))

    def _row(self, entrant: Entrant) -> dict[str, Any]:
        seed, several = self.config.seed, len(self.scores.keys) > 1
        row: dict[str, Any] = {BITS: entrant.nominal / self.pixels}
        codecs = (JPEG, H264) if self.config.codecs else ()
        row |= {m: self.scores.interval(entrant.name, m, seed) for m in (*PIXELS, *codecs)}
        row["frechet frames"] = frechet_distance(entrant.frames, self.real_frames)
        row["frechet clips"] = (
            frechet_distance(entrant.clips, self.real_clips) if several else float("nan")
        )
        if entrant.is_discrete:
            (codes,) = entrant.counts[0].channels
            total = sum(codes.values())
            row["codes used"] = len(codes)
            row["perplexity"] = 2 ** (entropy_bits(codes) / total)
        return row


def _entrant(name: str, device: str) -> Entrant:
    folder = weights_folder(name)
    tokenizer = load_tokenizer(folder).to(device)
    discrete = tokenizer.config.num_codes is not None
    labels = ["tokens"] if discrete else [*(f"step {s:g} std" for s in STEPS), "fp16"]
    title = folder.parent.name if folder.name == "weights" else folder.name
    return Entrant(
        name=title or Path(name).name,
        tokenizer=tokenizer,
        curve=Curve.of(labels),
        counts=[ChannelCounts() for _ in range(1 if discrete else len(STEPS))],
    )
