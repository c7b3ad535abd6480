"""Files of ``torch.save``, read as plain data.

`torch.load` refuses a whole checkpoint for one object that is no tensor, such as the byte streams
(``_extra_state``) that TransformerEngine leaves in training checkpoints. Here they stay inert
records (`openwfm.interop.pickled`) and the tensors beside them are read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openwfm.interop.pickled import read_pickle
from openwfm.interop.torchscript import ArchiveReader, opened_archive
from openwfm.weights import read_checkpoint

_EMPTY_BYTES = ("__builtin__ bytes", "builtins bytes")


class _SavedReader(ArchiveReader):
    def call(self, function: str, arguments: Sequence[Any]) -> Any:
        if function == "_codecs encode":  # bytes, as old pickles write them
            return str(arguments[0]).encode("latin1")
        if function in _EMPTY_BYTES and not arguments:
            return b""
        try:
            return super().call(function, arguments)
        except ValueError as error:
            raise ValueError(f"holds more than tensors and plain values ({error})") from error


def read_saved(path: Path | str) -> dict[str, Any]:
    """The dictionary in the file, its tensors on the CPU; nothing in the file is executed.

    Raises ValueError naming the file when it is damaged, holds no dictionary, or calls anything but
    what holds tensors together.
    """
    if not zipfile.is_zipfile(path):
        return read_checkpoint(path)  # the format before torch 1.6, by torch's own safe reader
    with opened_archive(path) as archive:
        reader = _SavedReader(archive)
        loaded = read_pickle(reader.tree(), reader.call)
        if not isinstance(loaded, dict):
            raise ValueError(f"holds a {type(loaded).__name__}, not a checkpoint")
    return loaded
