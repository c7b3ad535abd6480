"""Tensors of a TorchScript archive (``encoder.jit``) by name; no code of the archive is run.

``torch.jit.load`` compiles the archive's code and runs its ``__setstate__``. Here only the zip file
is read: the tree of objects in ``data.pkl`` gives names (`openwfm.interop.pickled`), the members
under ``data/`` give values. The graph is ignored: our own network takes the weights.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openwfm.interop.pickled import Name, Record, read_pickle

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
MAX_PICKLE = 64 * 2**20  # bytes of the object tree; that of the largest release is below 1 MiB
MAX_NAMES, MAX_DEPTH = 100_000, 64
# What `zipfile` raises of damaged files, besides ValueError.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, LookupError),
    *(NotImplementedError, OverflowError, RuntimeError),
)


def is_torchscript(path: Path | str) -> bool:
    """Whether the file is a zip with the object tree of a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with opened_archive(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    return {"data.pkl", "constants.pkl"} <= set(names)


@contextmanager
def opened_archive(path: Path | str) -> Iterator[zipfile.ZipFile]:
    """Whatever is wrong inside becomes a ValueError that names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*_DAMAGE, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole TorchScript archive ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_torchscript(path: Path | str) -> dict[str, Tensor]:
    """Parameters and buffers of the archive's module, by dotted name, on the CPU.

    Raises ValueError naming the file when it is damaged, calls anything, or holds no named tensor
    (a frozen module keeps its weights as constants without names).
    """
    tensors: dict[str, Tensor] = {}
    with opened_archive(path) as archive:
        reader = ArchiveReader(archive)
        for name, tensor in _walk(read_pickle(reader.tree(), reader.call), "", 0):
            tensors[name] = tensor
            if len(tensors) > MAX_NAMES:
                raise ValueError(f"more than {MAX_NAMES} tensors")
        if not tensors:
            raise ValueError("holds no named tensor; a frozen module has lost the names of its own")
    return tensors


def _walk(node: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if depth > MAX_DEPTH:
        raise ValueError(f"modules more than {MAX_DEPTH} deep at {prefix}")
    if not isinstance(node, Record):
        return
    for name, value in node.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _walk(value, f"{prefix}{name}.", depth + 1)


class ArchiveReader:
    """What the object tree may call, and the storages that it refers to."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self._storages: dict[str, Tensor] = {}
        roots = {name.partition("/")[0] for name in archive.namelist()}
        if len(roots) != 1:
            raise ValueError(f"{len(roots)} top folders, must be 1")
        self.root = roots.pop()
        if self._has("byteorder") and self._member("byteorder", 16) != b"little":
            raise ValueError("byteorder: must be little")

    def _has(self, name: str) -> bool:
        return f"{self.root}/{name}" in self.archive.NameToInfo

    def _member(self, name: str, limit: int) -> bytes:
        """A member of at most ``limit`` bytes, unpacked."""
        if not self._has(name):
            raise ValueError(f"has no {name}; not a TorchScript archive")
        info = self.archive.getinfo(f"{self.root}/{name}")
        if info.file_size > limit:
            raise ValueError(f"{name}: {info.file_size} bytes, at most {limit}")
        return self.archive.read(info)

    def tree(self) -> bytes:
        return self._member("data.pkl", MAX_PICKLE)

    def call(self, function: str, arguments: Sequence[Any]) -> Any:
        module, _, name = function.rpartition(" ")
        if function == "persistent":
            return self._storage(*arguments)
        if function == "torch._utils _rebuild_tensor_v2":
            return _view(*arguments[:4])
        if function == "torch._utils _rebuild_parameter":
            return arguments[0]
        if function == "collections OrderedDict":
            return dict(arguments[0]) if arguments else {}
        if module == "torch.jit._pickle" and name in _LISTS:
            return list(arguments[0])
        if function == "torch.jit._pickle restore_type_tag":
            return arguments[0]
        raise ValueError(f"calls {function.replace(' ', '.')}: only tensors are read, code is not")

    def _storage(self, tag: str, kind: Name, key: str, place: str, count: int) -> Tensor:
        """One-dimensional tensor of a storage's values, each storage once."""
        name = kind.name.rpartition(" ")[2] if isinstance(kind, Name) else repr(kind)
        if tag != "storage" or name not in _DTYPES:
            raise ValueError(f"{tag} of {name}: must be a storage of {', '.join(_DTYPES)}")
        if key not in self._storages:
            dtype = _DTYPES[name]
            wanted = count * dtype.itemsize
            data = bytearray(self._member(f"data/{key}", wanted))
            if len(data) != wanted:
                raise ValueError(f"data/{key}: {len(data)} bytes, must be {wanted}")
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else empty
        return self._storages[key]


def _view(values: Tensor, offset: int, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """A contiguous tensor of a storage's values; ValueError when it would reach beyond them."""
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError(f"tensor of size {size}, stride {stride}, offset {offset}: not valid")
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    numel = math.prod(size)
    if numel and offset + last >= len(values) or numel > len(values):
        raise ValueError(f"tensor of size {size} reaches beyond its {len(values)} values")
    return values.as_strided(size, stride, offset).contiguous()
