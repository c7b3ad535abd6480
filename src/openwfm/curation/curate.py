"""`curate_folder`: raw videos in, shards out, in four phases.

Measure every source (in workers) → decide (here, from scores) → caption what is kept (in workers)
→ pack. Finished pieces of an earlier run are used again; see docs/adr/0009.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict

from openwfm.curation.config import CurationConfig
from openwfm.curation.decide import FindRepeats, decide
from openwfm.curation.engine import Engine, LocalEngine
from openwfm.curation.ingest import find_sources
from openwfm.curation.jobs import CaptionClip, MeasureSource
from openwfm.curation.manifest import ManifestParts
from openwfm.curation.pack import Packed, pack
from openwfm.curation.phases import Measured, caption, measure
from openwfm.curation.pipeline import Account, Stage
from openwfm.curation.record import Clip
from openwfm.curation.stages import MakePhases, build_phases
from openwfm.curation.storage import Folder, open_folder
from openwfm.curation.summary import REPORT, CurationReport, tool_versions
from openwfm.curation.work import CAPTIONED, MEASURED, PARTS, CaptionedWork, MeasuredWork

WORK = ".work"


def curate_folder(
    config: CurationConfig,
    make_phases: MakePhases = build_phases,
    find: FindRepeats | None = None,
) -> CurationReport:
    """Curate every file of ``config.source``; finished work of an earlier run is not redone.

    Counts add up: every file and every shot is in the manifest, kept or rejected with a reason.
    Raises ValueError when the policy asks for a score that no stage measures.
    """
    begun = time.perf_counter()
    out = open_folder(config.out)
    work = out.below(WORK)
    _remove_others(work)
    tools = tool_versions()
    recipe = {**config.measure_recipe(), "tools": tools}
    measured_work = MeasuredWork(work, recipe)
    captioned_work = CaptionedWork(work, {**config.caption_recipe(), "tools": tools})
    parts = ManifestParts(work, recipe)
    phases = make_phases(config)
    measuring = MeasureSource(config, make_phases, measured_work)
    captioning = CaptionClip(config, make_phases, measured_work, captioned_work)

    sources = list(find_sources(config.source))
    with open_engine(config) as engine:
        measured = measure(engine, measuring, parts, sources, names(phases.measure))
        clips, decisions = decide(measured.clips, config.policy, measured_work, find)
        captioned = caption(engine, captioning, clips, measured.sources, names(phases.caption))
    packed = pack(
        out, measured_work, captioned_work, measured.sources, captioned, config.max_shard_samples
    )
    parts.remove()

    stages = {**measured.accounts, **decisions, **captioned.accounts}
    report = _report(config, measured, captioned.clips, stages, packed, begun)
    if measured.new or captioned.num_new or not _same(out, report):
        out.write(REPORT, report.to_bytes())
    return report


def names(stages: Sequence[Stage]) -> list[str]:
    return [stage.name for stage in stages]


@contextmanager
def open_engine(config: CurationConfig) -> Iterator[Engine]:
    """The engine that ``config.engine`` names; what it started is stopped after the block."""
    if config.engine == "local":
        with closing(LocalEngine(config.workers)) as engine:
            yield engine
        return
    from openwfm.curation.ray_engine import RayEngine, cluster

    with cluster(config.ray_address, config.workers):
        yield RayEngine(config.workers)


def _remove_others(work: Folder) -> None:
    """Leftovers of versions that kept their work elsewhere; it could not be used again."""
    known = {MEASURED, CAPTIONED, PARTS}
    for name in {name.split("/")[0] for name in work.children()} - known:
        work.remove(name)


def _report(
    config: CurationConfig,
    measured: Measured,
    clips: Sequence[Clip],
    stages: dict[str, Account],
    packed: Packed,
    begun: float,
) -> CurationReport:
    known = [(source.id in measured.new, source.facts) for source in measured.sources]
    facts = [(is_new, fact) for is_new, fact in known if fact is not None]
    seconds = time.perf_counter() - begun
    new_frames = sum(fact.num_frames for is_new, fact in facts if is_new)
    num_kept = sum(clip.rejection is None for clip in clips)
    assert num_kept == packed.num_clips, (num_kept, packed)
    for name, account in stages.items():
        account.check(name)
    return CurationReport(
        out=config.out,
        num_sources=len(measured.sources),
        num_sources_rejected=sum(s.rejection is not None for s in measured.sources),
        num_clips=len(clips),
        num_clips_kept=num_kept,
        source_frames=sum(fact.num_frames for _, fact in facts),
        source_seconds=round(sum(fact.seconds for _, fact in facts), 3),
        stages=stages,
        policy=asdict(config.policy),
        seconds=round(seconds, 3),
        new_frames_per_second=round(new_frames / seconds, 2) if new_frames else None,
        manifest_sha256=packed.manifest_sha256,
    )


def _same(out: Folder, report: CurationReport) -> bool:
    """Whether the report that is there describes the same manifest; its times are the true ones."""
    try:
        data = json.loads(out.read(REPORT))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(data, dict) and data.get("manifest_sha256") == report.manifest_sha256
