"""A shard on its way: on disk and not in memory, and nothing is left of one that is given up."""

from __future__ import annotations

import gc
import tracemalloc

import pyarrow as pa
import pytest

from openwfm.data.open_shard import OpenShard
from openwfm.data.shards import ShardIndex, ShardWriter


def test_given_up_it_leaves_nothing(tmp_path) -> None:
    shard = OpenShard(tmp_path, "a/shard-000000.tar")
    shard.write("k", "s", {"mp4": b"x" * 100}, 100)
    assert len(list((tmp_path / "a").iterdir())) == 1
    del shard
    gc.collect()
    assert not list((tmp_path / "a").iterdir())


def test_closed_it_is_whole(tmp_path) -> None:
    shard = OpenShard(tmp_path, "a/shard-000000.tar")
    shard.write("k", "s", {"mp4": b"x" * 100}, 100)
    entry = shard.close()
    (file,) = (tmp_path / "a").iterdir()
    assert file.name == "shard-000000.tar" and file.stat().st_size == entry["bytes"]
    assert [sample["key"] for sample in entry["samples"]] == ["k"]
    del shard
    gc.collect()
    assert file.is_file()


def test_memory_does_not_grow_with_open_shards(tmp_path) -> None:
    """24 MB in 12 buckets, none of which is full."""
    writer = ShardWriter(tmp_path)
    writer.add("a/b/c0", "warm", "s", {"mp4": b"x"})
    tracemalloc.start()
    for number in range(24):
        writer.add(f"a/b/c{number % 12}", f"k{number}", "s", {"mp4": bytes(1_000_000)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6
    writer.finish(pa.table({"id": ["k"]}))
    index = ShardIndex.open(tmp_path)
    assert len(index) == 25 and index.read("k7", "mp4") == bytes(1_000_000)


def test_a_full_shard_makes_room_for_the_next(tmp_path) -> None:
    writer = ShardWriter(tmp_path, max_samples=2, max_bytes=10)
    for number, size in enumerate((4, 4, 4, 9, 20, 1)):
        writer.add("f/g/h", f"k{number}", "s", {"mp4": bytes(size)})
    writer.finish(pa.table({"id": ["k"]}))
    index = ShardIndex.open(tmp_path)
    shards = [str(index.locate(f"k{n}", "mp4")[0])[-10:] for n in range(6)]
    assert shards == [f"{n:06d}.tar" for n in (0, 0, 1, 2, 3, 4)]


@pytest.mark.parametrize("key", ["a.b", "", "a/b"])
def test_a_bad_key_opens_no_shard(tmp_path, key) -> None:
    with pytest.raises(ValueError, match="shard key"):
        ShardWriter(tmp_path).add("f", key, "s", {"mp4": b""})
    assert not list(tmp_path.iterdir())
