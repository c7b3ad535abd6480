"""The two phases that run in workers, seen from the driver: give out tasks, gather results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from openwfm.curation.engine import Engine, Failure, Job, Outcome
from openwfm.curation.ingest import sidecar_bytes
from openwfm.curation.jobs import CaptionClip, CaptionTask, MeasureSource
from openwfm.curation.manifest import ManifestParts
from openwfm.curation.pipeline import Account
from openwfm.curation.record import Clip, Rejection, Source, slim
from openwfm.curation.storage import open_folder
from openwfm.curation.work import Result


@dataclass(frozen=True)
class Measured:
    """All sources and their clips (without evidence), in the order of ``find_sources``.

    ``new`` are the ids of sources that this run measured.
    """

    sources: list[Source]
    clips: list[Clip]
    accounts: dict[str, Account]
    new: frozenset[str]


@dataclass(frozen=True)
class Captioned:
    """All clips, the kept ones with captions, without evidence; ``keys`` of their texts by id."""

    clips: list[Clip]
    accounts: dict[str, Account]
    keys: dict[str, str]
    num_new: int


def measure(
    engine: Engine,
    job: MeasureSource,
    parts: ManifestParts,
    sources: Sequence[Source],
    stages: Sequence[str],
) -> Measured:
    """Measure what is not yet measured. ``stages`` are the names of the job's stages."""
    accounts = {"ingest": _ingested(sources), **{name: Account() for name in stages}}
    results: dict[str, Result] = {}

    def take(source: Source, failure: Failure | None = None) -> None:
        if source.rejection is not None:
            results[source.id] = Result(source=source, clips=(), accounts={})
        elif failure is not None:
            accounts["ingest"].passed -= 1
            accounts["ingest"].reject(failure.reason)
            refused = replace(source, rejection=_rejection("ingest", failure))
            results[source.id] = Result(source=refused, clips=(), accounts={})
            return  # not a part: the next run tries again
        else:
            read = job.work.read(source)
            results[source.id] = replace(read, clips=tuple(map(slim, read.clips)))
        found = results[source.id]
        parts.add(found.source, found.clips)

    todo = []
    for source in sources:
        if source.rejection is not None or job.work.is_done(source):
            take(source)
        else:
            todo.append(source)
    for position, failure in _progress("measure", "video", engine, job, todo):
        take(todo[position], failure)
    parts.flush()
    ordered = [results[source.id] for source in sources]
    for result in ordered:
        for name, account in result.accounts.items():
            accounts[name].add(account)
    return Measured(
        sources=[
            replace(result.source, file=source.file)
            for source, result in zip(sources, ordered, strict=True)
        ],
        clips=[clip for result in ordered for clip in result.clips],
        accounts=accounts,
        new=frozenset(source.id for source in todo),
    )


def caption(
    engine: Engine,
    job: CaptionClip,
    clips: Sequence[Clip],
    sources: Sequence[Source],
    stages: Sequence[str],
) -> Captioned:
    """Caption the kept clips that have no caption yet; the other clips pass through."""
    tasks = _caption_tasks(job, clips, {source.id: source for source in sources})
    todo = [at for at, task in tasks.items() if not job.work.is_done(task.key)]
    outcomes = _progress("caption", "clip", engine, job, [tasks[at] for at in todo])
    failures = {todo[position]: failure for position, failure in outcomes if failure is not None}
    accounts = {name: Account() for name in stages}
    finished, keys = list(clips), {}
    for at, task in tasks.items():
        if at in failures:
            accounts[stages[0]].received += 1
            accounts[stages[0]].reject(failures[at].reason)
            finished[at] = replace(clips[at], rejection=_rejection(stages[0], failures[at]))
            continue
        done, counted = job.work.read(task.key)
        # The file may have moved and the policy changed since the caption was written.
        finished[at] = slim(replace(done, path=clips[at].path, weight=clips[at].weight))
        keys[done.id] = task.key
        for name, account in counted.items():
            accounts[name].add(account)
    return Captioned(finished, accounts, keys, len(todo))


def _caption_tasks(
    job: CaptionClip, clips: Sequence[Clip], sources: Mapping[str, Source]
) -> dict[int, CaptionTask]:
    """By position, for every kept clip."""
    folder = open_folder(job.config.source)
    sidecars: dict[str, bytes | None] = {}
    tasks = {}
    for at, clip in enumerate(clips):
        if clip.rejection is None:
            source = sources[clip.source]
            if source.id not in sidecars:
                sidecars[source.id] = sidecar_bytes(folder, source)
            key = job.work.key(job.measured.in_full(clip), sidecars[source.id])
            tasks[at] = CaptionTask(clip, source, key)
    return tasks


def _progress(
    phase: str, unit: str, engine: Engine, job: Job, tasks: Sequence[object]
) -> Iterator[Outcome]:
    outcomes = engine.run(job, tasks)
    yield from tqdm(outcomes, total=len(tasks), desc=phase, unit=unit, disable=not tasks)


def _ingested(sources: Sequence[Source]) -> Account:
    account = Account(created=len(sources))
    for source in sources:
        if source.rejection is not None:
            account.reject(source.rejection.reason)
        else:
            account.passed += 1
    return account


def _rejection(stage: str, failure: Failure) -> Rejection:
    return Rejection(stage=stage, reason=failure.reason, detail=failure.detail)
