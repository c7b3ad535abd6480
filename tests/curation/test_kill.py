"""SIGKILL at random moments: the result is that of the run that nobody killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from curation_runs import good, run, tree

HERE = Path(__file__).parent


def start(*arguments: object, output: int = subprocess.DEVNULL) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_equals_never_killed(tmp_path) -> None:
    raw = tmp_path / "raw"
    good(raw, 3, num_frames=24)
    (raw / "bad.mp4").write_bytes(b"x" * 100)
    process = start(
        HERE / "curation_kills.py", raw, tmp_path / "out", 30, 0, output=subprocess.PIPE
    )
    out, err = process.communicate()
    assert process.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["killed"] == 30 and result["finished"] >= 2
    assert result["redone"] == 0
    assert len({measured for measured, _ in result["at"]}) > 1  # not always at the same place


WORKERS = """
import sys
from pathlib import Path
from curation_runs import run
if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_driver(tmp_path) -> None:
    """Only the driver is killed, not its group: an orphan would write beside the next run."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    good(raw, 6)
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    process = start(script, raw, out)
    until = time.monotonic() + 120
    while not list((out / ".work/measured").glob("*/result.json")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while group_lives(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not group_lives(process.pid)
    run(raw, tmp_path / "whole")
    run(raw, out)
    assert tree(out) == tree(tmp_path / "whole")


def group_lives(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            return True
    return False
