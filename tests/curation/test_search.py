"""Search in small folders of shards: by words, by example; the page, the files, the mistakes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from curation_videos import write_video

from openwfm.config import build, compose, config_folder
from openwfm.curation.look import Look
from openwfm.curation.search import (
    SearchConfig,
    Sentences,
    read_embeddings,
    search,
    write_embeddings,
)
from openwfm.data.manifest import COLUMNS
from openwfm.data.shards import ShardWriter
from openwfm.video import video_bytes

CAPTIONS = {
    "k0": "A red ball rolls across the floor.",
    "k1": "A car turns left at a crossing in the rain.",
    "k2": "A gripper picks up a cup from the table.",
    "k3": 'A <script>alert("x")</script> sign on a wall.',
}


class Colours:
    """Mean colours instead of a network; texts are the names of colours."""

    name, width, has_text = "colours", 3, True

    def embed(self, look: Look) -> np.ndarray:
        mean = look.stills.reshape(-1, 3).mean(axis=0).astype(np.float32)
        return mean / np.linalg.norm(mean)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.eye(3, dtype=np.float32)["rgb".index(text[0])] for text in texts])


class ColoursConfig:
    def open(self) -> Colours:
        return Colours()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Four clips, red, green, blue and grey; the first carries its tokens, the others do not."""
    writer = ShardWriter(tmp_path / "shards", max_samples=4)
    colours = ([250, 10, 10], [10, 250, 10], [10, 10, 250], [90, 90, 90])
    sentences = Sentences()
    for number, (key, caption) in enumerate(CAPTIONS.items()):
        frames = np.full((12, 32, 48, 3), colours[number], np.uint8)
        data = {"caption": caption, "fps": 24.0, "path": f"{key}.mp4", "start_seconds": 1.5}
        members = {"mp4": video_bytes(torch.from_numpy(frames), 24.0)}
        if key == "k0":
            buffer = io.BytesIO()
            np.save(buffer, sentences.encoder.encode([caption])[0])
            members["text.npy"], data["text_encoder"] = buffer.getvalue(), sentences.name
        members["json"] = json.dumps(data).encode()
        writer.add("a", key, f"source{number}", members)
    writer.finish(pa.Table.from_pylist([], schema=pa.schema(COLUMNS)))
    return tmp_path / "shards"


@pytest.mark.parametrize(
    "query, key",
    [("a car turning left", "k1"), ("robot arm and a mug", "k2"), ("rolling sphere", "k0")],
)
def test_words_find_captions(shards: Path, query: str, key: str) -> None:
    hits = search(shards, query, count=3)
    assert len(hits) == 3 and hits[0].key == key
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].caption == CAPTIONS[key] and hits[0].start_seconds == 1.5
    assert search(shards, query, count=3) == hits  # the second time from what was stored


def test_stored_tokens_and_captions_give_the_same_vector(shards: Path) -> None:
    search(shards, "x")
    stored = read_embeddings(shards, "caption_embeddings")
    assert stored is not None
    fresh = np.stack([Sentences().embed(CAPTIONS[key]) for key in stored.keys])
    np.testing.assert_allclose(stored.vectors, fresh, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(stored.vectors, axis=1), 1, atol=1e-5)


def test_sentences_pool_as_sentence_transformers_do() -> None:
    package = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    tokens = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(0))
    pooled = package.Pooling(5, "mean")(
        {"token_embeddings": tokens, "attention_mask": torch.ones(1, 7)}
    )["sentence_embedding"]
    wanted = torch.nn.functional.normalize(pooled, dim=1)[0].numpy()
    np.testing.assert_allclose(Sentences._pool(tokens[0].numpy()), wanted, atol=1e-6)


def test_a_text_tower_joins_in(shards: Path) -> None:
    """No caption speaks of blue: only the picture can say so."""
    hits = search(shards, "blue", encoder=ColoursConfig())
    assert hits[0].key == "k2"


def test_an_example_finds_its_like_but_not_itself(shards: Path, tmp_path: Path) -> None:
    hits = search(shards, clip="k3", encoder=ColoursConfig())
    assert "k3" not in [hit.key for hit in hits] and len(hits) == 3
    frames = np.full((24, 40, 40, 3), (20, 240, 30), np.uint8)
    example = write_video(tmp_path / "green.mp4", frames)
    assert search(shards, clip=str(example), encoder=ColoursConfig())[0].key == "k1"
    stored = read_embeddings(shards)
    assert stored is not None and stored.encoder == "colours"
    with pytest.raises(ValueError, match="was embedded with colours"):
        search(shards, clip="k0")
    with pytest.raises(ValueError, match="is no video file and no clip"):
        search(shards, clip="k9", encoder=ColoursConfig())


def test_the_default_encoder_by_example(shards: Path) -> None:
    hits = search(shards, clip="k0", count=2)
    assert len(hits) == 2 and all(-1 <= hit.score <= 1 for hit in hits)


def test_the_page_is_whole_and_shows_captions_as_text(shards: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    search(shards, 'a sign <img src="x">', out=str(page))
    text = page.read_text()
    assert text.count("<video") == 4 and text.count("data:video/mp4;base64,") == 4
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    search(shards, 'a sign <img src="x">', out=str(tmp_path / "again.html"))
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_embeddings_and_keys_belong_together(tmp_path: Path) -> None:
    rows = np.eye(3, 5, dtype=np.float32)
    write_embeddings(tmp_path, ["a", "b", "c"], rows, "e")
    found = read_embeddings(tmp_path)
    assert found is not None and found.keys == ("a", "b", "c") and found.encoder == "e"
    assert np.array_equal(found.vectors, rows)
    assert read_embeddings(tmp_path, "other") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embeddings.json", "embeddings.npy"]
    for keys in (["a", "b"], ["a", "b", "b"]):
        with pytest.raises(ValueError, match="one row for each"):
            write_embeddings(tmp_path, keys, rows, "e")
    np.save(tmp_path / "embeddings.npy", rows[:, ::-1])
    with pytest.raises(ValueError, match="is not the file"):
        read_embeddings(tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({}, "exactly one"),
        ({"query": "x", "clip": "y"}, "exactly one"),
        ({"query": " "}, "must hold words"),
        ({"query": "x", "count": 0}, "count=0"),
        ({"query": "x", "out": "page.txt"}, "out=page.txt"),
    ],
)
def test_bad_values_are_named(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SearchConfig(root="r", **change)


def test_yaml_is_the_defaults() -> None:
    config = compose("search", ["in=r", "query=x"])
    assert build(config.search) == SearchConfig(root="r", query="x", out="search.html")
    written = yaml.safe_load((config_folder() / "search.yaml").read_text())["search"]
    assert set(written) - {"_target_"} == set(SearchConfig.__dataclass_fields__)


def test_the_verb(shards: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "openwfm.cli", "search", f"in={shards}"]
    page = tmp_path / "p.html"
    done = subprocess.run(
        [*command, "query=a car turning left", "count=2", f"out={page}"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "k1" in done.stdout and page.is_file()
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "exactly one" in done.stderr
