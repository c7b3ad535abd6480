"""Deduplication: what it finds (``copies``) and what it costs (``scale``).

python -m openwfm.benchmarks.dedup copies shards=DIR,DIR seed=3 out=FILE.json
python -m openwfm.benchmarks.dedup scale sizes=10000,100000,1000000 out=FILE.json
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from openwfm.benchmarks.copies import compare, plant
from openwfm.benchmarks.footage import drawn, natural, simulated
from openwfm.curation.features import EfficientNetConfig
from openwfm.curation.semdedup import find_duplicate_groups
from openwfm.files import write_json
from openwfm.provenance import machine
from openwfm.randomness import numpy_generator

WIDTH, SHARE, EPSILON = 256, 0.3, 0.05
EMBEDDING_EPSILONS, COPY_EPSILONS = (0.02, 0.1, 0.3, 0.45), (0.02, 0.05, 0.1)


def synthetic(
    count: int, seed: int, width: int = WIDTH
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    """Unit vectors in topics of about 100, of which 30 % are copies within a cosine of 0.95.

    The second array names each vector's original (itself, if it is one). Originals of one topic
    have cosines about 0.5; the distance of a copy is uniform up to 0.045.
    """
    random = numpy_generator(seed, "benchmark/dedup")
    originals = count - round(count * SHARE)
    topics = _directions(random, max(2, originals // 100), width)
    vectors = np.empty((count, width), np.float32)
    for start in range(0, originals, 65536):
        rows = slice(start, min(start + 65536, originals))
        size = rows.stop - rows.start
        own = _directions(random, size, width) + topics[random.integers(len(topics), size=size)]
        vectors[rows] = own / np.linalg.norm(own, axis=1, keepdims=True)
    source = random.integers(originals, size=count - originals)
    for start in range(0, len(source), 65536):
        base = vectors[source[start : start + 65536]]
        noise = _directions(random, len(base), width)
        noise -= (noise * base).sum(axis=1, keepdims=True) * base
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        cosine = 1 - random.uniform(0, 0.9 * EPSILON, (len(base), 1)).astype(np.float32)
        at = originals + start
        vectors[at : at + len(base)] = cosine * base + np.sqrt(1 - cosine**2) * noise
    place = random.permutation(count)
    moved = np.empty_like(vectors)
    moved[place] = vectors
    films = np.empty(count, np.int64)
    films[place] = place[np.concatenate([np.arange(originals), source])]
    return moved, films


def _directions(random: np.random.Generator, count: int, width: int) -> Float[np.ndarray, "n d"]:
    found = random.standard_normal((count, width), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def measure(count: int, seed: int, threads: int) -> dict[str, Any]:
    """Time, memory and truth of one size, in this process."""
    torch.set_num_threads(threads)
    vectors, films = synthetic(count, seed)
    before = _peak_gib()
    # Originals first, so that exactly the copies should go.
    order = np.lexsort((np.arange(count), films != np.arange(count)))
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_duplicate_groups(vectors, order, epsilon=EPSILON)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    removed = ~found.kept
    copies = films != np.arange(count)
    return {
        "vectors": count,
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "cpu_microseconds_per_vector": round(1e6 * cpu / count, 2),
        "threads": threads,
        "peak_gib": round(_peak_gib(), 3),
        "peak_gib_before": round(before, 3),
        "recall": round(float((removed & copies).sum() / copies.sum()), 5),
        "precision": round(float((films[found.leader] == films)[removed].mean()), 5),
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def scale(sizes: Sequence[int], threads: int, seed: int) -> list[dict[str, Any]]:
    """Each size in a process of its own, so that its peak memory is its own."""
    rows = []
    for size in sizes:
        command = [sys.executable, "-m", __spec__.name, "one", f"size={size}", f"seed={seed}"]
        done = subprocess.run(
            [*command, f"threads={threads}"], check=True, capture_output=True, text=True
        )
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    return rows


def copies(shards: Sequence[str], per_folder: int, seed: int) -> list[dict[str, Any]]:
    """Simulated clips of every folder, drawn ones and natural pieces, with their copies."""
    pieces = itertools.chain(
        *(simulated(folder, per_folder) for folder in shards), drawn(20, seed=seed), natural()
    )
    clips = list(plant(pieces, EfficientNetConfig().open()))
    return compare(clips, EMBEDDING_EPSILONS, COPY_EPSILONS)


def main(arguments: Sequence[str]) -> int:
    kind, given = (arguments or [""])[0], dict(item.split("=", 1) for item in arguments[1:])
    threads, seed = int(given.get("threads", "1")), int(given.get("seed", "0"))
    if kind == "one":
        print(json.dumps(measure(int(given["size"]), seed, threads)))
        return 0
    torch.set_num_threads(threads)
    if kind == "scale":
        rows = scale([int(size) for size in given["sizes"].split(",")], threads, seed)
    elif kind == "copies":
        rows = copies(given["shards"].split(","), int(given.get("per_folder", "22")), seed)
        for row in rows:
            print(row)
    else:
        print(__doc__)
        return 2
    write_json(Path(given["out"]), {"machine": machine(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
