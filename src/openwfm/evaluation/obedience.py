"""Does a world obey its prompt? Colour and number of objects, read out of its frames.

The reader is classical: saturated pixels, connected regions, the hue of each. Its own errors are
measured on films of the simulator, and on those through the tokenizer: no world can be read to
obey more often than that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from openwfm.data.batch import VideoBatch
from openwfm.evaluation.futures import Example
from openwfm.evaluation.metrics import Interval
from openwfm.evaluation.table import Scores, plain_intervals
from openwfm.randomness import derive_seed
from openwfm.world import Sampling, World

# Hues of what simulators call by these names, in degrees (`openwfm.simulation.bodies.COLOURS`).
HUES = {"red": 1.0, "yellow": 49.0, "green": 132.0, "cyan": 187.0, "blue": 226.0, "purple": 279.0}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
PROMPT = re.compile(rf"\b({'|'.join(NUMBERS)}) ({'|'.join(HUES)}) \w+", re.IGNORECASE)

# Tables and backgrounds have a saturation of 0.42 at most, and a chroma of 0.3.
SATURATION, CHROMA = 0.5, 0.2
SMALLEST = 0.005  # of the picture's area, about a third of the smallest body
EVERY = 4  # frames between those that are read

METRICS = ("colour", "number", "both")
GENERATED, CHANCE = "generated", "prompts of other clips"
REAL, CEILING = "film of the prompt", "film through the tokenizer"

Reading = tuple[str, ...]  # a colour for each object, sorted


@dataclass(frozen=True)
class Demand:
    """What a prompt asks for."""

    number: int
    colour: str

    @classmethod
    def of(cls, prompt: str) -> Demand:
        """Raises ValueError unless the prompt says number and colour exactly once."""
        found = PROMPT.findall(prompt)
        if len(found) != 1:
            raise ValueError(
                f"prompt={prompt!r}: must say once how many objects of which colour, as in "
                f"'two red balls' ({', '.join(NUMBERS)}; {', '.join(HUES)})"
            )
        number, colour = found[0]
        return cls(NUMBERS[number.lower()], colour.lower())

    def judge(self, seen: Reading) -> dict[str, bool]:
        """``colour``: there are objects and all have it; ``number``: of objects of any colour."""
        colour, number = set(seen) == {self.colour}, len(seen) == self.number
        return {"colour": colour, "number": number, "both": colour and number}


def hue(colour: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Degrees on the colour circle, from RGB on any common scale (Preucil 1953): the angle of the
    colour seen along the grey axis."""
    r, g, b = colour.unbind(-1)
    angle = torch.atan2(3**0.5 * (g - b), 2 * r - g - b)
    return torch.rad2deg(angle) % 360


def colour_names(colour: Float[Tensor, "n 3"]) -> list[str]:
    """Of the nearest hue among `HUES`."""
    names, centres = list(HUES), torch.tensor(list(HUES.values()))
    away = (hue(colour)[:, None] - centres[None] + 180) % 360 - 180
    return [names[i] for i in away.abs().argmin(1).tolist()]


def vivid(frames: Float[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
    """Pixels (RGB in 0..1) that belong to a coloured object."""
    high, low = frames.amax(1), frames.amin(1)
    return (high - low > CHROMA) & (high - low > SATURATION * high)


def label(mask: Bool[Tensor, "n h w"]) -> Int[Tensor, "n h w"]:
    """Connected regions (by edges): each has a number of its own in its picture, 0 is outside."""
    n, h, w = mask.shape
    labels = torch.arange(1, h * w + 1).view(1, h, w).expand(n, h, w) * mask
    while True:
        before, padded = labels, torch.nn.functional.pad(labels, (1, 1, 1, 1))
        around = [padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1]]
        for other in (*around, padded[:, 2:, 1:-1]):
            labels = torch.maximum(labels, other)
        labels = labels * mask
        if torch.equal(labels, before):
            return labels


def read_frames(frames: Float[Tensor, "n 3 h w"]) -> list[Reading]:
    """The objects in each picture; RGB in 0..1."""
    labels, smallest = label(vivid(frames)), SMALLEST * frames.shape[-2] * frames.shape[-1]
    readings = []
    for picture, regions in zip(frames, labels, strict=True):
        numbers, sizes = torch.unique(regions[regions > 0], return_counts=True)
        means = [picture[:, regions == n].mean(1) for n in numbers[sizes >= smallest]]
        readings.append(tuple(sorted(colour_names(torch.stack(means)))) if means else ())
    return readings


def read_video(video: Float[Tensor, "3 t h w"]) -> Reading:
    """What most of the frames show (in [-1, 1]), every `EVERY`-th; the earliest of equals."""
    readings = read_frames((video[:, ::EVERY].transpose(0, 1).float() + 1) / 2)
    return Counter(readings).most_common(1)[0][0]


@dataclass(frozen=True, kw_only=True)
class ObedienceReport:
    """Shares of clips. ``num_in`` = ``num_evaluated`` + the number ``rejected``."""

    num_in: int
    num_evaluated: int
    rejected: dict[str, str]
    rows: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    settings: dict[str, Any]
    scores: Scores
    examples: list[Example]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "obedience",
            "num_in": self.num_in,
            "num_evaluated": self.num_evaluated,
            "rejected": self.rejected,
            "rows": plain_intervals(self.rows),
            "differences": plain_intervals(self.differences),
            "settings": self.settings,
        }


def evaluate_obedience(
    world: World,
    batches: Iterable[VideoBatch],
    *,
    sampling: Sampling,
    seed: int = 0,
    num_examples: int = 6,
    progress: bool = False,
) -> ObedienceReport:
    """Film the captions of clips anew from noise and read what came out.

    The rows are the world's films; the same films judged by the prompts of all other clips, which
    is chance; the clips themselves; and those through the tokenizer. Videos that are not finite are
    rejected. Raises ValueError for a caption that asks for nothing countable.
    """
    readings: dict[str, list[Reading]] = {GENERATED: [], REAL: [], CEILING: []}
    demands: list[Demand] = []
    scores, rejected, examples, num_in = Scores(), dict[str, str](), list[Example](), 0
    for number, batch in enumerate(tqdm(batches, desc="evaluate", disable=not progress)):
        if batch.video is None or batch.caption is None or batch.text is None:
            raise ValueError(f"batch {number}: has no video, no captions or no text embeddings")
        wanted = [Demand.of(caption) for caption in batch.caption]
        made = world.predict(
            None,
            text=batch.text,
            num_frames=batch.video.shape[2],
            fps=batch.fps,
            seed=derive_seed(seed, "evaluate", number),
            sampling=sampling,
        )
        videos = {GENERATED: made, REAL: batch.video, CEILING: world.reconstruct(batch.video)}
        for i, key in enumerate(batch.key):
            num_in += 1
            bad = [name for name, video in videos.items() if not video[i].isfinite().all()]
            if bad:
                rejected[f"{num_in - 1}:{key}"] = f"{bad[0]}: not finite"
                continue
            scores.keys.append(key)
            demands.append(wanted[i])
            for name, video in videos.items():
                readings[name].append(read_video(video[i]))
            if len(examples) < num_examples:
                rate, caption = float(batch.fps[i]), batch.caption[i]
                examples.append(
                    Example(
                        key=key, caption=caption, fps=rate, condition_frames=0,
                        real=batch.video[i], made=made[i],
                    )
                )  # fmt: skip
    if not demands:
        raise ValueError(f"evaluate: none of {num_in} clips could be evaluated")
    for name, seen in readings.items():
        _add(scores, name, [want.judge(one) for want, one in zip(demands, seen, strict=True)])
    _add(scores, CHANCE, chance(demands, readings[GENERATED]))
    return ObedienceReport(
        num_in=num_in,
        num_evaluated=len(demands),
        rejected=rejected,
        rows=scores.intervals(seed),
        differences={
            f"{GENERATED} - {CHANCE}": {
                metric: scores.difference(GENERATED, CHANCE, metric, seed) for metric in METRICS
            }
        },
        settings={"seed": seed, "sampler": world.settings(sampling)},
        scores=scores,
        examples=examples,
    )


def chance(demands: list[Demand], readings: list[Reading]) -> list[dict[str, float]]:
    """How often each video obeys the prompts of all the others; NaN for a single one."""
    rows = []
    for i, seen in enumerate(readings):
        verdicts = [demand.judge(seen) for j, demand in enumerate(demands) if j != i]
        count = len(verdicts)
        share = {m: sum(v[m] for v in verdicts) / count if count else torch.nan for m in METRICS}
        rows.append(share)
    return rows


def _add(
    scores: Scores, row: str, verdicts: list[dict[str, bool]] | list[dict[str, float]]
) -> None:
    for metric in METRICS:
        values = torch.tensor([float(verdict[metric]) for verdict in verdicts], dtype=torch.float64)
        scores.add(row, metric, values)
