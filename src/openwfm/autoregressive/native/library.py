"""The compiled decode loop: built with the machine's own C++ compiler when it is first asked for.

It is plain C++ behind a C interface (no headers of torch), which compiles in two seconds, into
``$OPENWFM_CACHE`` or the user's cache folder, under a name made of the source, the compiler and the
processor. Without a compiler there is no library, and callers decode with torch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

SOURCES = ("decode.cpp", "kernels.hpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp")
COMPILERS = ("g++", "c++", "clang++")
KINDS = {"fp32": 0, "bf16": 1, "int8": 2}
# Of a layer, in this order; a matrix is followed by the scales of its rows.
SLOTS = (
    "attention_norm", "qkv", "qkv_scale", "q_norm", "k_norm", "out", "out_scale", "cross_norm",
    "cross_q", "cross_q_scale", "cross_q_norm", "cross_out", "cross_out_scale", "mlp_norm",
    "gate_up", "gate_up_scale", "down", "down_scale",
)  # fmt: skip


class Pass(ctypes.Structure):
    """What a call of ``openwfm_hidden`` needs; the same fields as in decode.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in (
            "kind", "width", "layers", "heads", "kv_heads", "head_dim", "hidden",
            "batch", "count", "start", "capacity", "context", "context_batch", "threads",
        )),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in (
            "weights", "norm", "cosines", "sines", "absolute", "keys", "values", "memory", "x",
        )),
    )  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library; None, after one warning, where it cannot be built or loaded."""
    try:
        found = ctypes.CDLL(str(build(cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        first = detail.strip().splitlines()[0] if detail.strip() else type(error).__name__
        warnings.warn(f"native decoding is not available, torch decodes: {first}", stacklevel=2)
        return None
    found.openwfm_pass_size.restype = ctypes.c_int64
    assert found.openwfm_pass_size() == ctypes.sizeof(Pass)
    found.openwfm_hidden.argtypes = [ctypes.POINTER(Pass)]
    found.openwfm_hidden.restype = None
    number, place = ctypes.c_int64, ctypes.c_void_p
    found.openwfm_multiply.argtypes = [
        number, place, place, number, number, place, number, place, number,
    ]  # fmt: skip
    found.openwfm_multiply.restype = None
    return found


def cache_folder() -> Path:
    given = os.environ.get("OPENWFM_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openwfm"


def build(folder: Path) -> Path:
    """The library's file in ``folder``, compiled unless it is there. Its last step is a rename, so
    that neither a killed build nor two at once leave a broken one.

    Raises OSError without a compiler, CalledProcessError when it fails.
    """
    named = os.environ.get("CXX", "").split()
    compiler = named or [name for name in COMPILERS if shutil.which(name)][:1]
    if not compiler:
        raise FileNotFoundError(f"no C++ compiler: looked for $CXX, {', '.join(COMPILERS)}")
    source = Path(__file__).parent
    version = _output([*compiler, "--version"])
    digest = hashlib.sha256()
    for part in (*compiler, version, *FLAGS, _processor()):
        digest.update(part.encode() + b"\0")
    for name in SOURCES:
        digest.update((source / name).read_bytes())
    target = folder / f"decode-{digest.hexdigest()[:16]}.so"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / target.name
            _output([*compiler, *FLAGS, str(source / SOURCES[0]), "-o", str(made)])
            os.replace(made, target)
    return target


def _output(command: list[str]) -> str:
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return found.stdout


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    flags = [line for line in lines if line.lower().startswith(("flags", "features", "model name"))]
    return "\n".join((platform.machine(), platform.processor(), *flags[:2]))
