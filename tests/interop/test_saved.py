"""Files of torch.save: every tensor arrives, objects stay inert, nothing runs."""

from __future__ import annotations

import io
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from openwfm.interop.pickled import Record
from openwfm.interop.saved import read_saved


def test_it_agrees_with_torch(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    shared = {"turned": whole.t(), "part": whole[1:3, 2:5], "same": whole}
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    values = {
        "model": module.state_dict(),  # an OrderedDict with attributes of its own
        "views": shared,
        "half": [torch.randn(3).to(dtype) for dtype in (torch.bfloat16, torch.float16)],
        "flags": (True, None, 3, 2**40, -1.5, "text"),
        "parameter": nn.Parameter(torch.randn(2)),
        "empty": torch.zeros(0, 4),
    }
    torch.save(values, tmp_path / "m.pt")
    found = read_saved(tmp_path / "m.pt")
    wanted = torch.load(tmp_path / "m.pt", weights_only=True)
    assert set(found) == set(wanted) and found["flags"] == wanted["flags"]
    for group in ("model", "views"):
        assert list(found[group]) == list(wanted[group])
        for name, tensor in wanted[group].items():
            assert found[group][name].dtype == tensor.dtype
            assert torch.equal(found[group][name], tensor), name
    for a, b in zip(found["half"], wanted["half"], strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    assert torch.equal(found["parameter"], wanted["parameter"].detach())
    assert found["empty"].shape == (0, 4)


def test_the_format_before_zip_files(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_saved(tmp_path / "m.pt")["a"], torch.ones(2))


def test_byte_streams_stay_inert(tmp_path: Path) -> None:
    """TransformerEngine's ``_extra_state``: torch's own safe reader refuses the whole file."""
    state: dict[str, object] = OrderedDict()
    state["net.a.weight"] = torch.ones(2)
    for name, content in (("net.a._extra_state", b"\x00\xff bytes"), ("net.b._extra_state", b"")):
        state[name] = io.BytesIO(content)
    torch.save(state, tmp_path / "m.pt")
    found = read_saved(tmp_path / "m.pt")
    assert isinstance(found["net.a._extra_state"], Record)
    assert found["net.a._extra_state"].state[0] == b"\x00\xff bytes"
    assert torch.equal(found["net.a.weight"], torch.ones(2))


def test_what_runs_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"a": torch.ones(2), "b": Bomb()}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="m.pt: holds more than tensors"):
        read_saved(tmp_path / "m.pt")
    assert not (tmp_path / "exploded").exists()


def test_no_dictionary(tmp_path: Path) -> None:
    torch.save(torch.ones(2), tmp_path / "m.pt")
    with pytest.raises(ValueError, match="m.pt: holds a Tensor, not a checkpoint"):
        read_saved(tmp_path / "m.pt")


def test_damage_is_a_value_error_or_leaves_whole_tensors(tmp_path: Path) -> None:
    """120 files with bytes changed in the tree or cut: never another error, never half a tensor."""
    torch.save({"model": nn.Linear(3, 2).state_dict(), "step": 3}, tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tree,) = (name for name in members if name.endswith("data.pkl"))
    chance = random.Random(0)
    outcomes = {"refused": 0, "read": 0}
    for _ in range(120):
        data = bytearray(members[tree])
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            data = data[: chance.randrange(len(data))]
        with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(data) if name == tree else content)
        try:
            found = read_saved(tmp_path / "bad.pt")
        except ValueError as error:
            outcomes["refused"] += "bad.pt" in str(error)
        else:
            tensors = [v for v in found.values() if isinstance(v, Tensor)]
            assert all(tensor.numel() <= 6 for tensor in tensors)
            outcomes["read"] += 1
    assert sum(outcomes.values()) == 120 and outcomes["refused"] > 20
