"""The weights of an action world with its control at zero: the start of the control run.

python experiments/010_nano_action/silence.py WEIGHTS out=FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from openwfm.callbacks.export import copy_weights
from openwfm.weights import read_weights, save_weights


def main(weights: str, *, out: str) -> None:
    config, tensors = read_weights(weights, kind="world")
    last = {name for name in tensors if name.startswith("control.") and ".2." in name}
    assert len(last) == 4, sorted(last)
    silent = {name: t.zero_() if name in last else t for name, t in tensors.items()}
    save_weights(out, {n: v for n, v in config.items() if n != "schema"}, silent)
    copy_weights(Path(weights) / "tokenizer", Path(out) / "tokenizer")


if __name__ == "__main__":
    main(sys.argv[1], out=sys.argv[2].partition("=")[2])
