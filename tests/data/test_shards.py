"""Shards: an independent tar reader agrees, damage is named, equal input gives equal bytes."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from openwfm.data.shards import ShardIndex, ShardWriter, bucket

FOLDER = "resolution_lt_720/aspect_1_1/duration_0_5"


def sample(number: int) -> dict[str, bytes]:
    return {
        "mp4": bytes([number % 256]) * (100 + number),
        "json": json.dumps({"number": number}).encode(),
        "text.npy": b"npy" * number,
    }


def write(root: Path, numbers: list[int], max_samples: int = 4) -> ShardIndex:
    writer = ShardWriter(root, max_samples=max_samples)
    for number in numbers:
        writer.add(FOLDER, f"k{number:03d}", f"source{number % 3}", sample(number))
    writer.finish(pa.table({"id": [f"k{number:03d}" for number in numbers]}))
    return ShardIndex.open(root)


def test_round_trip(tmp_path) -> None:
    index = write(tmp_path, list(range(10)))
    assert index.keys == [f"k{number:03d}" for number in range(10)] and len(index) == 10
    for number in range(10):
        key = f"k{number:03d}"
        assert index.members(key) == ("json", "mp4", "text.npy")
        assert {name: index.read(key, name) for name in index.members(key)} == sample(number)
        assert index.metadata(key) == {"number": number}
        assert index.sources[key] == f"source{number % 3}"
    assert index.manifest().num_rows == 10
    index.verify()
    index.close()


def test_other_readers_agree(tmp_path) -> None:
    write(tmp_path, list(range(10)))
    tars = sorted(tmp_path.rglob("*.tar"))
    assert [file.relative_to(tmp_path).as_posix() for file in tars] == [
        f"{FOLDER}/shard-{number:06d}.tar" for number in range(3)
    ]
    with tarfile.open(tars[0]) as tar:
        assert all((item.mtime, item.uname) == (0, "openwfm") for item in tar)
    read = {}
    for tar in tars:
        with open(tar, "rb") as stream:
            files = tar_file_expander([{"url": str(tar), "stream": stream}])
            read |= {item["__key__"]: item for item in group_by_keys(files)}
    assert len(read) == 10
    assert (
        read["k007"]["mp4"] == sample(7)["mp4"]
        and read["k007"]["text.npy"] == sample(7)["text.npy"]
    )


def test_equal_input_gives_equal_bytes(tmp_path) -> None:
    write(tmp_path / "a", list(range(7)))
    write(tmp_path / "b", list(range(7)))
    files = [f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file()]
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_shards_are_cut_by_bytes_too(tmp_path) -> None:
    writer = ShardWriter(tmp_path, max_bytes=1000)
    for number in range(5):
        writer.add(FOLDER, f"k{number}", "s", {"mp4": bytes(450)})
    writer.add(FOLDER, "huge", "s", {"mp4": bytes(5000)})
    writer.finish(pa.table({"id": []}))
    counts = [
        len(shard["samples"])
        for shard in json.loads((tmp_path / "index.json").read_text())["shards"]
    ]
    assert counts == [2, 2, 1, 1]


def test_truncated_shard_is_named(tmp_path) -> None:
    index = write(tmp_path, [1, 2])
    tar = next(tmp_path.rglob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"shard-000000\.tar: 700 bytes, but index\.json says \d+"):
        ShardIndex.open(tmp_path)
    with pytest.raises(ValueError, match=r"shard-000000\.tar: truncated at clip k002, mp4"):
        index.read("k002", "mp4")


def test_missing_files_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"index\.json: no such file; `openwfm curate`"):
        ShardIndex.open(tmp_path)
    write(tmp_path, [1])
    (tmp_path / "manifest.parquet").rename(tmp_path / "m")
    with pytest.raises(ValueError, match=r"manifest\.parquet: no such file"):
        ShardIndex.open(tmp_path)
    (tmp_path / "m").rename(tmp_path / "manifest.parquet")
    next(tmp_path.rglob("*.tar")).unlink()
    with pytest.raises(ValueError, match=r"shard-000000\.tar: no such file"):
        ShardIndex.open(tmp_path)


def test_changed_bytes_are_found_by_verify(tmp_path) -> None:
    write(tmp_path, [1, 2])
    tar = next(tmp_path.rglob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"shard-000000\.tar: sha256"):
        ShardIndex.open(tmp_path).verify()


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not a readable JSON"),
        ("[]", "schema=list: must be 1"),
        ('{"schema": 7}', "schema=7: must be 1"),
        ('{"schema": 1}', "not a shard index"),
    ],
)
def test_broken_index_is_named(tmp_path, text, message) -> None:
    write(tmp_path, [1])
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match=rf"index\.json: {message}"):
        ShardIndex.open(tmp_path)


def test_index_cannot_lead_out_of_the_folder(tmp_path) -> None:
    write(tmp_path / "in", [1])
    file = tmp_path / "in" / "index.json"
    data = json.loads(file.read_text())
    data["shards"][0]["path"] = "../secret.tar"
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="leads out of the folder"):
        ShardIndex.open(tmp_path / "in")


def test_unknown_clip_and_member(tmp_path) -> None:
    index = write(tmp_path, [1])
    with pytest.raises(ValueError, match="no clip nope among 1"):
        index.read("nope", "mp4")
    with pytest.raises(ValueError, match=r"clip k001: has no camera\.npz; it has json, mp4"):
        index.read("k001", "camera.npz")


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a"])
def test_bad_keys(tmp_path, key) -> None:
    with pytest.raises(ValueError, match="shard key"):
        ShardWriter(tmp_path).add(FOLDER, key, "s", {"mp4": b""})


def test_key_written_twice(tmp_path) -> None:
    writer = ShardWriter(tmp_path)
    writer.add(FOLDER, "a", "s", {"mp4": b""})
    with pytest.raises(ValueError, match="written twice"):
        writer.add(FOLDER, "a", "s", {"mp4": b""})


def test_an_unfinished_folder_does_not_open_and_a_new_run_leaves_no_old_shard(tmp_path) -> None:
    write(tmp_path, list(range(10)))
    writer = ShardWriter(tmp_path)
    writer.add(FOLDER, "new", "s", {"mp4": b"x"})
    with pytest.raises(ValueError, match=r"index\.json: no such file"):
        ShardIndex.open(tmp_path)
    writer.finish(pa.table({"id": ["new"]}))
    assert ShardIndex.open(tmp_path).keys == ["new"]
    assert len(list(tmp_path.rglob("*.tar"))) == 1


def _read_in_child(index: ShardIndex, queue: multiprocessing.Queue) -> None:
    queue.put(index.read("k001", "json"))


def test_readable_after_fork_and_pickle(tmp_path) -> None:
    index = write(tmp_path, [1])
    index.read("k001", "json")
    copy = pickle.loads(pickle.dumps(index))
    assert copy.read("k001", "json") == sample(1)["json"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(index, queue))
    child.start()
    assert queue.get(timeout=60) == sample(1)["json"]
    child.join()


@given(st.integers(1, 8000), st.integers(1, 8000), st.floats(0.01, 10_000))
def test_every_clip_has_a_bucket(width: int, height: int, seconds: float) -> None:
    resolution, aspect, duration = bucket(width, height, seconds).split("/")
    assert resolution in {"resolution_1080", "resolution_720", "resolution_lt_720"}
    assert aspect in {f"aspect_{a}" for a in ("9_16", "3_4", "1_1", "4_3", "16_9")}
    assert duration in {f"duration_{d}" for d in ("0_5", "5_10", "10_30", "30_inf")}


@pytest.mark.parametrize(
    "size, seconds, name",
    [
        ((64, 64), 2, FOLDER),
        ((1920, 1080), 5, "resolution_1080/aspect_16_9/duration_5_10"),
        ((720, 1280), 29.9, "resolution_720/aspect_9_16/duration_10_30"),
        ((640, 480), 30, "resolution_lt_720/aspect_4_3/duration_30_inf"),
        ((960, 1280), 10, "resolution_720/aspect_3_4/duration_10_30"),
    ],
)
def test_bucket_names(size, seconds, name) -> None:
    assert bucket(*size, seconds) == name
