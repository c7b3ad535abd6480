"""What made a result: code, packages, machine. Plain values that go into JSON and mp4 comments."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = (
    "openwfm",
    "torch",
    "lightning",
    "hydra-core",
    "numpy",
    "av",
    "mujoco",
    "transformers",
    "webdataset",
    "torchmetrics",
    "safetensors",
)


@dataclass(frozen=True, kw_only=True)
class CodeState:
    """``commit`` is None outside a git checkout; ``diff`` is what the commit does not hold."""

    commit: str | None
    diff: str

    @property
    def diff_sha256(self) -> str | None:
        return hashlib.sha256(self.diff.encode()).hexdigest() if self.diff else None


def code_state(folder: Path | None = None) -> CodeState:
    """Commit and uncommitted changes (new files by name) of the checkout that holds the code."""
    folder = folder or Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return CodeState(commit=None, diff="")
    changes = _git(folder, "diff", "HEAD", "--", ":/") or ""
    status = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ":/") or ""
    untracked = [line for line in status.splitlines() if line.startswith("??")]
    return CodeState(commit=commit.strip(), diff="\n".join([changes, *untracked]).strip())


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape results; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Processor, cores and memory; no host or user names."""
    import torch

    return {
        "processor": _processor(),
        "cores": len(_affinity()),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def command_line() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    first = meminfo.read_text().splitlines()[0].split()
    return round(int(first[1]) / 2**20, 1)
