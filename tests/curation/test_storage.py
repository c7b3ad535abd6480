"""Disk and stores behave alike; sources from a store are fetched, and nothing is left behind."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path

import fsspec
import pytest
from curation_runs import good, run, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.ingest import at_hand, find_sources
from openwfm.curation.record import Source
from openwfm.curation.storage import LocalFolder, RemoteFolder, open_folder
from openwfm.data.shards import ShardIndex
from openwfm.extras import MissingExtraError


@pytest.fixture(autouse=True)
def _empty_memory() -> None:
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


NAMES = st.sampled_from(["a", "b/c", "b/d", "b/e/f g", "ü/x", "x.y"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "remove folder"]), NAMES, st.binary(max_size=8)),
    max_size=12,
)


@settings(deadline=None, max_examples=30)
@given(STEPS)
def test_disk_and_store_hold_the_same_after_any_steps(steps) -> None:
    fsspec.filesystem("memory").store.clear()
    with tempfile.TemporaryDirectory() as scratch:
        folders = (LocalFolder(Path(scratch, "deep")), RemoteFolder("memory://deep"))
        held: dict[str, bytes] = {}
        for step, name, data in steps:
            top = name.split("/")[0]
            for folder in folders:
                if step == "write":
                    folder.write(name, data)
                else:
                    folder.remove(name if step == "remove" else top)
            if step == "write":
                held[name] = data
            else:
                gone = name if step == "remove" else top
                held = {k: v for k, v in held.items() if k != gone and not k.startswith(gone + "/")}
        for folder in folders:
            assert folder.sizes("") == {name: len(data) for name, data in held.items()}
            assert all(folder.read(name) == data for name, data in held.items())
            assert folder.sizes("b") == {k: len(v) for k, v in held.items() if k[:2] == "b/"}
            below = folder.below("b")
            assert set(below.sizes("")) == {k[2:] for k in held if k[:2] == "b/"}
            assert set(folder.children()) >= {name.split("/")[0] for name in held}
            for name in ("a", "b", "b/c", "nothing"):
                assert folder.exists(name) == (name in held)
            with pytest.raises(FileNotFoundError):
                folder.read("nothing/at all")


def upload(folder: Path, url: str) -> None:
    system, root = fsspec.core.url_to_fs(url)
    for file in folder.rglob("*"):
        if file.is_file():
            system.pipe_file(f"{root}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def download(url: str, folder: Path) -> Path:
    remote = RemoteFolder(url)
    for name in remote.sizes(""):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(remote.read(name))
    return folder


def test_from_store_to_store_gives_what_disks_give(tmp_path, monkeypatch) -> None:
    raw = tmp_path / "raw"
    good(raw)
    (raw / "deep ü").mkdir()
    (raw / "good1.mp4").rename(raw / "deep ü" / "good 1.mp4")
    shots = [{"start": 0, "end": 20, "caption": "A ball rolls."}]
    (raw / "good0.json").write_text(json.dumps({"schema": 1, "shots_captions": shots}))
    (raw / "broken.mp4").write_bytes(b"nothing")
    upload(raw, "memory://bucket/raw")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    remote = run("memory://bucket/raw", "memory://bucket/out")
    assert list(scratch.iterdir()) == []
    local = run(raw, tmp_path / "out")
    assert remote.num_clips_kept == local.num_clips_kept == 6
    assert remote.num_sources_rejected == 1
    mine = ShardIndex.open(download("memory://bucket/out", tmp_path / "down"))
    mine.verify()
    other = ShardIndex.open(tmp_path / "out")
    assert mine.keys == other.keys
    for key in mine.keys:
        a, b = mine.metadata(key), other.metadata(key)
        assert a.pop("source") and b.pop("source")
        assert a == b
        assert mine.read(key, "mp4") == other.read(key, "mp4")
        assert mine.read(key, "text.npy") == other.read(key, "text.npy")
    assert "A ball rolls." in {mine.metadata(key)["caption"] for key in mine.keys}


def test_a_store_is_resumed_and_its_index_comes_last(tmp_path, monkeypatch) -> None:
    raw = tmp_path / "raw"
    good(raw)
    upload(raw, "memory://raw")
    whole = run("memory://raw", "memory://whole")
    plain, uploaded = RemoteFolder.upload, []

    def breaks(self, name: str, file: Path) -> None:
        uploaded.append(name)
        if name == "manifest.parquet":
            raise OSError("the network is gone")
        plain(self, name, file)

    monkeypatch.setattr(RemoteFolder, "upload", breaks)
    with pytest.raises(OSError, match="the network is gone"):
        run("memory://raw", "memory://out")
    assert not RemoteFolder("memory://out").exists("index.json")
    monkeypatch.setattr(RemoteFolder, "upload", plain)
    again = run("memory://raw", "memory://out")
    assert again.new_frames_per_second is None  # nothing was measured again
    assert again.manifest_sha256 == whole.manifest_sha256
    assert tree(download("memory://out", tmp_path / "a")) == tree(
        download("memory://whole", tmp_path / "b")
    )
    (raw / "good2.mp4").unlink()
    fsspec.filesystem("memory").rm("/raw/good2.mp4")
    assert run("memory://raw", "memory://out", max_shard_samples=1).num_clips_kept == 4
    index = ShardIndex.open(download("memory://out", tmp_path / "c"))
    index.verify()
    run("memory://raw", "memory://out")
    assert sum("shard-" in name for name in RemoteFolder("memory://out").sizes("")) == 1


def test_file_urls_are_paths(tmp_path) -> None:
    raw = tmp_path / "raw"
    good(raw, 1)
    run(f"file://{raw}", f"file://{tmp_path}/url")
    run(raw, tmp_path / "path")
    assert tree(tmp_path / "url") == tree(tmp_path / "path")


@pytest.mark.parametrize("name", ["..", "a/..", "."])
def test_names_of_objects_cannot_leave_the_scratch_folder(name) -> None:
    with pytest.raises(OSError, match="not a file name"):
        with at_hand("memory://raw", Source(id="s", path=name, num_bytes=1)):
            raise AssertionError("got in")


def test_equal_objects_are_one_source_where_the_store_has_checksums(monkeypatch) -> None:
    facts = {"size": 3, "ETag": '"abc"'}
    listing = [("a.mp4", facts), ("b.mp4", facts), ("c.mp4", {"size": 3}), (".x/d.mp4", facts)]
    monkeypatch.setattr(RemoteFolder, "listing", lambda self, prefix="": iter(listing))
    sources = list(find_sources("memory://raw"))
    assert [(s.path, s.rejection and s.rejection.reason) for s in sources] == [
        ("a.mp4", None), ("b.mp4", "duplicate_file"), ("c.mp4", None),
    ]  # fmt: skip
    assert len({source.id for source in sources}) == 3


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_missing_library_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"s3://bucket/x: .*s3fs.*openwfm\[cloud\]"):
        open_folder("s3://bucket/x")
