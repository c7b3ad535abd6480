"""Archives give their tensors and nothing else: no code runs, no damage goes unnoticed."""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openwfm.interop.torchscript import is_torchscript, read_torchscript


def archive(path: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = [8, 8, 5]
        self.name = "small"
        self.rate = 0.5
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4, 2, bias=False))
        for index, dtype in enumerate((torch.float16, torch.bfloat16, torch.float64)):
            self.register_buffer(f"float{index}", torch.randn(3, 2).to(dtype))
        for index, dtype in enumerate((torch.int64, torch.int32, torch.int8, torch.uint8)):
            self.register_buffer(f"int{index}", torch.arange(6).to(dtype))
        self.register_buffer("flag", torch.tensor(True))
        self.register_buffer("empty", torch.zeros(0, 4))
        whole = torch.randn(4, 6)
        self.register_buffer("turned", whole.t())  # strides that are not contiguous
        self.register_buffer("part", whole[1:3, 2:5])  # the same storage, from an offset

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


def test_every_tensor_arrives_as_it_was(tmp_path: Path) -> None:
    module = Small()
    found = read_torchscript(archive(tmp_path / "m.jit", module))
    wanted = module.state_dict()
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_it_agrees_with_torch(tmp_path: Path) -> None:
    """An independent reader: torch's own, of a module that does no harm."""
    path = archive(tmp_path / "m.jit", Small())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = torch.jit.load(str(path)).state_dict()
    ours = read_torchscript(path)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Hostile(nn.Module):
    """When torch loads it, its own code creates a file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file
        self.values = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return (self.file, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.file = state[0]
        self.training = state[1]
        self.values = torch.from_file(self.file, True, 8)


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_code_of_an_archive_does_not_run(tmp_path: Path) -> None:
    written = tmp_path / "written"
    path = archive(tmp_path / "m.jit", Holder(Hostile(str(written))))
    found = read_torchscript(path)
    assert not written.exists()
    assert torch.equal(found["weight"], torch.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.load(str(path))
    assert written.exists(), "the archive is harmless, so the test proves nothing"


class _Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.mkdir, (str(self.file), 0o700)


def with_tree(path: Path, tree: bytes, **members: bytes) -> Path:
    """An archive whose object tree is ``tree``."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {"data.pkl": tree, "constants.pkl": b"\x80\x02).", **members}.items():
            file.writestr(f"m/{name}", data)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_calls_are_refused(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    tree = pickle.dumps({"weight": _Evil(made)}, protocol=protocol)
    path = with_tree(tmp_path / "m.jit", tree)
    assert is_torchscript(path)
    with pytest.raises(ValueError, match=r"calls \w+\.mkdir: only tensors are read"):
        read_torchscript(path)
    assert not made.exists()
    pickle.loads(tree)
    assert made.exists(), "the pickle is harmless, so the test proves nothing"


SLOTS = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x04\x00\x00\x00nameK\x01stb."


@pytest.mark.parametrize(
    "tree, message",
    [
        (SLOTS, "changes a Name: only objects have a state"),
        (b"\x80\x02cos\nsystem\n)\x81.", "holds no named tensor"),
        (b"\x80\x02cos\nsystem\nK\x01\x85\x81.", "makes an object of"),
        (b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.", "instruction OBJ"),
        (b"\x80\x02(X\x01\x00\x00\x00xios\nsystem\n.", "instruction INST"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02K\x01K\x02R.", "calls a int"),
        (b"\x80\x02R.", "damaged pickle"),
        (b"\x80\x02K\x01", "damaged|without an end|STOP"),
        (b"", "damaged|without an end|STOP"),
        (b"\x80\x02(K\x01t.", "no named tensor"),
    ],
)
def test_odd_trees_are_refused(tmp_path: Path, tree: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_torchscript(with_tree(tmp_path / "m.jit", tree))


def tensor_tree(size: str, stride: str, offset: str = "K\x00", kind: str = "FloatStorage") -> bytes:
    """A module with one tensor over the four numbers of storage 0."""
    text = (
        "\x80\x02c__torch__\nM\n)\x81}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
        f"((X\x07\x00\x00\x00storagectorch\n{kind}\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
        f"{offset}({size}t({stride}t\x89ccollections\nOrderedDict\n)RtRsb."
    )
    return text.encode("latin-1")


@pytest.mark.parametrize(
    "tree, message",
    [
        (tensor_tree("K\x05", "K\x01"), "reaches beyond its 4 values"),
        (tensor_tree("K\x04", "K\x02"), "reaches beyond"),
        (tensor_tree("K\x02", "K\x01", "K\x03"), "reaches beyond"),
        (tensor_tree("M\xff\xff", "K\x00"), "reaches beyond"),
        (tensor_tree("K\x02", "J\xff\xff\xff\xff"), "not valid"),
        (tensor_tree("K\x02K\x02", "K\x01"), "not valid"),
        (tensor_tree("K\x04", "K\x01", kind="QInt8Storage"), "must be a storage of"),
        (tensor_tree("K\x04", "K\x01", kind="DoubleStorage"), "16 bytes, must be 32"),
        (tensor_tree("K\x04", "K\x01", kind="HalfStorage"), "16 bytes, at most 8"),
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path: Path, tree: bytes, message: str) -> None:
    good = tensor_tree("K\x04", "K\x01")
    values = np.arange(4, dtype="<f4").tobytes()
    path = with_tree(tmp_path / "good.jit", good, **{"data/0": values})
    assert read_torchscript(path)["w"].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=message):
        read_torchscript(with_tree(tmp_path / "m.jit", tree, **{"data/0": values}))


def test_a_tree_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    """Thirty modules, each twice in the next, hold 2^30 names; a cycle holds endlessly many."""
    part = tensor_tree("K\x04", "K\x01")[2:-1]
    tree = b"\x80\x02" + part + b"q\x00"
    for level in range(1, 31):
        before = bytes([level - 1])
        tree += b"c__torch__\nM\n)\x81}(X\x01\x00\x00\x00ah" + before
        tree += b"X\x01\x00\x00\x00bh" + before + b"ubq" + bytes([level])
    values = np.arange(4, dtype="<f4").tobytes()
    with pytest.raises(ValueError, match="more than 100000 tensors"):
        read_torchscript(with_tree(tmp_path / "m.jit", tree + b".", **{"data/0": values}))
    cycle = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb."
    with pytest.raises(ValueError, match="modules more than 64 deep"):
        read_torchscript(with_tree(tmp_path / "c.jit", cycle))


def test_frozen_archives_say_why_they_do_not_load(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen = torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval()))
        torch.jit.save(frozen, str(tmp_path / "m.jit"))
    with pytest.raises(ValueError, match="frozen module has lost the names"):
        read_torchscript(tmp_path / "m.jit")


def refuses(path: Path) -> bool:
    """Whether it raises a ValueError; one that does not name the file fails the test."""
    try:
        read_torchscript(path)
    except ValueError as error:
        message = str(error)
    else:
        return False
    assert str(path) in message, message
    return True


def test_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    """Bytes flipped, cut and moved: either the tensors, or a ValueError that names the file."""
    whole = archive(tmp_path / "m.jit", nn.Linear(3, 2)).read_bytes()
    rng, path, refused = random.Random(0), tmp_path / "d.jit", 0
    for trial in range(150):
        data = bytearray(whole)
        if trial % 3 == 0:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data))
        refused += refuses(path)
    assert refused > 60


def test_damaged_trees_never_escape_as_another_error(tmp_path: Path) -> None:
    """As above, of the tree alone, with checksums that are right."""
    buffer = io.BytesIO(archive(tmp_path / "m.jit", nn.Linear(3, 2)).read_bytes())
    with zipfile.ZipFile(buffer) as file:
        members = {n.partition("/")[2]: file.read(n) for n in file.namelist()}
    rng = random.Random(1)
    for _ in range(300):
        data = bytearray(members["data.pkl"])
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(2, len(data))] = rng.randrange(256)
        path = with_tree(
            tmp_path / "d.jit",
            bytes(data),
            **{name: value for name, value in members.items() if name.startswith("data/")},
        )
        refuses(path)
