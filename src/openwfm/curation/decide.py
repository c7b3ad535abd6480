"""The decision over all clips of all sources: the policy's rules, then duplicates.

It reads scores, thumbnails and embeddings, never video, so another policy costs seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int

from openwfm.curation.pipeline import Account
from openwfm.curation.policy import DedupConfig, PolicyConfig
from openwfm.curation.record import Clip, Rejection
from openwfm.curation.semdedup import find_copies, find_duplicate_groups, preference
from openwfm.curation.work import MeasuredWork

# Position of each repeated clip → position of the clip that it repeats.
FindRepeats = Callable[[Sequence[Clip], MeasuredWork, DedupConfig], Mapping[int, int]]


def decide(
    clips: Sequence[Clip], policy: PolicyConfig, work: MeasuredWork, find: FindRepeats | None = None
) -> tuple[list[Clip], dict[str, Account]]:
    """All clips in their order, with rejections and sampling weights, and two accounts."""
    decided = list(clips)
    accounts = {"policy": Account(), "dedup": Account()}
    alive = [position for position, clip in enumerate(clips) if clip.rejection is None]
    verdicts = policy.verdicts([clips[position] for position in alive])
    failed = {at: verdict for at, verdict in zip(alive, verdicts, strict=True) if verdict}
    _reject(decided, alive, failed, "policy", accounts)

    # By place in the input, so that of equal clips the same one stays in every run.
    alive = [position for position in alive if position not in failed]
    alive.sort(key=lambda position: (clips[position].path, clips[position].start_frame))
    repeats = (find or find_repeats)([clips[position] for position in alive], work, policy.dedup)
    copies = {
        alive[later]: ("duplicate", _repeats(clips[alive[first]]))
        for later, first in repeats.items()
    }
    _reject(decided, alive, copies, "dedup", accounts)
    for position in alive:
        if position not in copies:
            decided[position] = replace(clips[position], weight=policy.weight(clips[position]))
    return decided, accounts


def _reject(
    clips: list[Clip],
    received: Sequence[int],
    verdicts: Mapping[int, tuple[str, str]],
    stage: str,
    accounts: Mapping[str, Account],
) -> None:
    account = accounts[stage]
    account.received, account.passed = len(received), len(received) - len(verdicts)
    for position, (reason, detail) in verdicts.items():
        account.reject(reason)
        rejection = Rejection(stage=stage, reason=reason, detail=detail)
        clips[position] = replace(clips[position], rejection=rejection)
    account.check(stage)


def _repeats(clip: Clip) -> str:
    return f"repeats {clip.id} ({clip.path}, frame {clip.start_frame})"


def find_repeats(clips: Sequence[Clip], work: MeasuredWork, config: DedupConfig) -> dict[int, int]:
    """Position of each clip that goes → of the one that stays: first copies of one film, then,
    where the config asks for it, clips whose embeddings are too much alike."""
    if not clips:
        return {}
    keys = [[_preferred(clip, name) for name in config.prefer] for clip in clips]
    order = preference(np.array(keys, dtype=np.float64).reshape(len(clips), len(config.prefer)))
    signatures = _Signatures(clips, work)
    copies = find_copies(signatures, order, epsilon=config.copies)
    found = _gone(copies.leader)
    if config.epsilon is None and config.target_fraction is None:
        return found
    left = np.flatnonzero(copies.kept)
    rank = np.empty(len(clips), dtype=np.int64)
    rank[order] = np.arange(len(clips))
    alike = find_duplicate_groups(
        np.stack([_array(work, clips[at], "embedding") for at in left.tolist()]),
        np.argsort(rank[left]),
        epsilon=config.epsilon,
        target_fraction=config.target_fraction,
    )
    near = {int(left[at]): int(left[leader]) for at, leader in _gone(alike.leader).items()}
    # A copy whose film went too repeats what its film repeats.
    return {at: near.get(leader, leader) for at, leader in found.items()} | near


def _gone(leader: Int[np.ndarray, " n"]) -> dict[int, int]:
    return {at: int(of) for at, of in enumerate(leader.tolist()) if of != at}


def _preferred(clip: Clip, name: str) -> float:
    if name not in clip.scores:
        raise ValueError(
            f"policy.dedup.prefer: {name}: clip {clip.name} has no such score; "
            f"known: {', '.join(sorted(clip.scores)) or 'none'}"
        )
    return clip.scores[name]


class _Signatures(Sequence[np.ndarray]):
    """Read when they are asked for: the longest weigh more than all else of a clip."""

    def __init__(self, clips: Sequence[Clip], work: MeasuredWork) -> None:
        self._clips, self._work = clips, work
        self._read = lru_cache(256)(self._fresh)

    def _fresh(self, at: int) -> np.ndarray:
        return _array(self._work, self._clips[at], "signature")

    def __getitem__(self, at: Any) -> Any:
        if at >= len(self):
            raise IndexError(at)
        return self._read(at)

    def __len__(self) -> int:
        return len(self._clips)


def _array(work: MeasuredWork, clip: Clip, kind: str) -> np.ndarray:
    array = work.array(clip, kind)
    if array is None:
        raise ValueError(f"clip {clip.name}: no stage made the {kind} that deduplication needs")
    return array
