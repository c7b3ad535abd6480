"""Run by test_kill.py: kills curation at random moments until it was killed often enough.

``python curation_kills.py RAW OUT KILLS SEED`` prints JSON. The driver is a forked process with a
group of its own, so that a kill costs no second import. Whenever a run gets through, its output is
compared with that of the run that nobody disturbed, and the next one begins in a new folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
from curation_runs import run, tree
from curation_stages import make_phases

from openwfm.curation.config import CurationConfig
from openwfm.curation.probe import Probe
from openwfm.curation.record import Record
from openwfm.curation.stages import Phases

LOG = "processed.log"


class Logged(Probe):
    def __init__(self, log: Path) -> None:
        self.log = log

    def process(self, record: Record) -> list[Record]:
        with open(self.log, "a") as file:
            file.write(f"{record.id}\n")  # type: ignore[union-attr]
        return super().process(record)


def die_at_rename(number: int) -> None:
    """Every lasting change is a rename: dying at one of them, before or after it, is worst."""
    rename, left = os.replace, [number // 2]

    def replace(source: str, target: str) -> None:
        left[0] -= 1
        if left[0] < 0 and number % 2:
            rename(source, target)
        if left[0] < 0:
            os.killpg(0, signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]


def attempt(raw: Path, out: Path, delay: float | None = None, renames: int | None = None) -> bool:
    """Whether the run got through before its whole group was killed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if renames is not None:
            die_at_rename(renames)

        def phases(config: CurationConfig) -> Phases:
            made = make_phases(config)
            log = out.with_suffix(".log")
            return Phases(measure=(Logged(log), *made.measure[1:]), caption=made.caption)

        try:
            run(raw, out, phases=phases)
        except BaseException:  # noqa: BLE001  # must not return into the parent's loop
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended, status = 0, 0
    deadline = None if delay is None else time.monotonic() + delay
    while not ended and (deadline is None or time.monotonic() < deadline):
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the run failed by itself"
        return True
    return False


def done(out: Path) -> set[str]:
    return {file.parent.name for file in (out / ".work/measured").glob("*/result.json")}


def processed(out: Path) -> list[str]:
    log = out.with_suffix(".log")
    return log.read_text().split() if log.exists() else []


def main(raw: Path, out: Path, kills: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    assert attempt(raw, out / "whole")
    whole, usual = tree(out / "whole"), time.monotonic() - begun
    killed, finished, redone, moments = 0, 0, 0, []
    while killed < kills or finished < 2:
        target = out / f"run{finished}"
        before, count = done(target), len(processed(target))
        delay, renames = None, None
        if killed < kills and random.integers(2):
            delay = float(random.uniform(0, usual))
        elif killed < kills:
            renames = int(random.integers(24))
        got_through = attempt(raw, target, delay, renames)
        redone += sum(name in before for name in processed(target)[count:])
        if got_through:
            assert tree(target) == whole, "another result"
            assert not list(target.rglob(".*.????????")), "temporary files were left"
            finished += 1
            shutil.rmtree(target)
            target.with_suffix(".log").unlink()
        else:
            killed += 1
            moments.append([len(before), (target / "index.json").exists()])
    print(json.dumps({"killed": killed, "finished": finished, "redone": redone, "at": moments}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
