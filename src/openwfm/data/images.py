"""A folder of pictures, cropped to the sizes of the clips that they are trained beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from openwfm.data.buckets import nearest_size
from openwfm.data.latents import to_video
from openwfm.data.windows import FrameCache, Size, decode_clip
from openwfm.files import sha256_file
from openwfm.video import fit_size, to_uint8

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def open_pictures(folder: Path, sizes: Sequence[Size]) -> FrameCache:
    """All pictures below ``folder`` as clips of one frame; decoded once, into ``folder/.cache``.

    A picture goes to the size with the nearest aspect ratio (the earlier one when two are equally
    near): cropped around its centre, then resized. Raises ValueError when there is no picture.
    """
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS and ".cache" not in file.parts
    )
    if not files:
        raise ValueError(f"data.images={folder}: no pictures ({', '.join(ENDINGS)}) in it")
    names = {f"image:{file.relative_to(folder).as_posix()}": file for file in files}
    identity = {
        "pictures": {name: sha256_file(file) for name, file in names.items()},
        "sizes": [list(size) for size in sizes],
    }

    def read() -> Iterator[tuple[str, UInt8[np.ndarray, "1 h w c"]]]:
        for name, file in names.items():
            pixels = decode_clip(file.read_bytes(), str(file))[:1]
            size = nearest_size((pixels.shape[1], pixels.shape[2]), sizes)
            yield name, to_uint8(fit_size(to_video(pixels), size)).numpy()

    return FrameCache.of_clips(folder / ".cache", identity, read())
