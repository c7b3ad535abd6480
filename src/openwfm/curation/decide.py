"""The decision over all clips of all sources: the policy's rules, then duplicates.

It reads scores and signatures, never video, so another policy costs seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from openwfm.curation.dedup import find_duplicates
from openwfm.curation.pipeline import Account
from openwfm.curation.policy import DedupConfig, PolicyConfig
from openwfm.curation.record import Clip, Rejection
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
    """Clips of the same bytes, and clips whose thumbnails are those of an earlier one."""
    first: dict[str, int] = {}
    found = {
        position: first[clip.id]
        for position, clip in enumerate(clips)
        if first.setdefault(clip.id, position) != position
    }
    single = [position for position in range(len(clips)) if position not in found]
    signatures = [_signature(work, clips[position]) for position in single]
    near = find_duplicates(signatures, config.distance)
    return found | {single[later]: single[earlier] for later, earlier in near.items()}


def _signature(work: MeasuredWork, clip: Clip) -> np.ndarray:
    signature = work.array(clip, "signature")
    if signature is None:
        raise ValueError(f"clip {clip.name}: no stage made the signature that deduplication needs")
    return signature
