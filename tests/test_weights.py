from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from openwfm.files import atomic_path, read_json, write_json
from openwfm.weights import load_strict, read_checkpoint, read_weights, save_weights


def test_round_trip_is_exact(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(3, 4), "b": torch.arange(5)}
    save_weights(tmp_path / "w", {"kind": "tokenizer", "net": {"x": [1, 2]}}, tensors)
    config, loaded = read_weights(tmp_path / "w", kind="tokenizer")
    assert config["net"] == {"x": [1, 2]}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_truncated_or_foreign_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    save_weights(folder, {"kind": "tokenizer"}, {"a": torch.randn(100)})
    with pytest.raises(ValueError, match="kind=tokenizer: must be world"):
        read_weights(folder, kind="world")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match="model.safetensors: not a whole"):
        read_weights(folder, kind="tokenizer")
    file.unlink()
    with pytest.raises(ValueError, match="no such file"):
        read_weights(folder, kind="tokenizer")
    (folder / "config.json").write_text('{"schema": ')
    with pytest.raises(ValueError, match="config.json"):
        read_json(folder / "config.json")


def test_strict_loading_lists_every_key_that_does_not_fit() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(ValueError) as error:
        load_strict(module, {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}, "file")
    message = str(error.value)
    assert all(word in message for word in ("missing bias", "misshapen weight", "unknown extra"))


def test_a_pickle_in_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match="bad.ckpt: holds more than tensors"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(ValueError, match="cut.ckpt: not a whole checkpoint"):
        read_checkpoint(tmp_path / "cut.ckpt")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"a": 1})

    def fail_halfway() -> None:
        with atomic_path(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert read_json(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]
