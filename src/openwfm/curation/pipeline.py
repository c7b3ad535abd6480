"""The stage contract, and the walk of one record through the stages with its bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import av

from openwfm.curation.record import Clip, Record, RejectedError, Rejection


class Stage(Protocol):
    """One step. Stages measure and transform; what is kept is decided afterwards, by the policy.

    ``setup`` loads models, once per worker. ``process`` takes one record of type ``accepts`` and
    returns records: itself changed, and any that it made. It raises RejectedError when the record
    cannot be used; other records go on.
    """

    @property
    def name(self) -> str: ...

    @property
    def accepts(self) -> type[Record]: ...

    def setup(self) -> None: ...

    def process(self, record: Record) -> list[Record]: ...


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Rejects the clips for which ``decide`` returns a reason and a detail."""

    name: str
    decide: Callable[[Clip], tuple[str, str] | None]
    accepts: type[Record] = Clip

    def setup(self) -> None:
        """A policy has nothing to load."""

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip)
        verdict = self.decide(record)
        if verdict is not None:
            raise RejectedError(*verdict)
        return [record]


@dataclass(kw_only=True)
class Account:
    """Counts of one stage; ``received + created = passed + rejected`` at any time."""

    received: int = 0
    created: int = 0
    passed: int = 0
    rejected: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

    def reject(self, reason: str) -> None:
        self.rejected += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def check(self, stage: str) -> None:
        assert self.received + self.created == self.passed + self.rejected, (stage, self)
        assert self.rejected == sum(self.reasons.values()), (stage, self)

    def add(self, other: Account) -> None:
        for name in ("received", "created", "passed", "rejected", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count


class Pipeline:
    """Takes a record through all stages depth first: one clip's media is in memory at a time."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        names = [stage.name for stage in stages]
        assert len(set(names)) == len(names), names
        self.stages = tuple(stages)

    def setup(self) -> None:
        for stage in self.stages:
            stage.setup()

    def accounts(self) -> dict[str, Account]:
        return {stage.name: Account() for stage in self.stages}

    def run(self, record: Record, accounts: dict[str, Account]) -> Iterator[Record]:
        """Every record that ``record`` became, finished or rejected; itself comes first."""
        yield from self._walk(record, 0, accounts)
        for name, account in accounts.items():
            account.check(name)

    def _walk(self, record: Record, first: int, accounts: dict[str, Account]) -> Iterator[Record]:
        for position in range(first, len(self.stages)):
            stage = self.stages[position]
            if not isinstance(record, stage.accepts):
                continue
            record, *made = self._apply(stage, record, accounts[stage.name])
            if record.rejection is not None:
                yield record
                return
            if made:
                yield from self._walk(record, position + 1, accounts)
                for other in made:
                    yield from self._walk(other, position + 1, accounts)
                return
        yield record

    def _apply(self, stage: Stage, record: Record, account: Account) -> list[Record]:
        account.received += 1
        begun = time.perf_counter()
        try:
            results = stage.process(record)
        except RejectedError as error:
            rejection = Rejection(stage=stage.name, reason=error.reason, detail=error.detail)
        except (av.FFmpegError, OSError) as error:
            detail = error.strerror or type(error).__name__
            rejection = Rejection(stage=stage.name, reason="stage_failed", detail=detail)
        else:
            assert results, f"{stage.name} omitted a record"
            account.created += len(results) - 1
            account.passed += len(results)
            return results
        finally:
            account.seconds += time.perf_counter() - begun
        account.reject(rejection.reason)
        return [replace(record, rejection=rejection)]
