"""Search in a folder of shards: by words in the captions, by what is seen, by an example clip."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from openwfm.curation.contact_sheet import Hit, write_contact_sheet
from openwfm.curation.embeddings import (
    VISUAL,
    Embeddings,
    first_video,
    read_embeddings,
    write_embeddings,
)
from openwfm.curation.features import EfficientNetConfig, Encoder, EncoderConfig, unit
from openwfm.curation.watch import look_of, look_of_file
from openwfm.data.shards import ShardIndex
from openwfm.text import text_encoder

CAPTIONS = "caption_embeddings"
CHUNK = 65536

__all__ = ["Hit", "SearchConfig", "read_embeddings", "run_search", "search", "write_embeddings"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What to look for in the shards at ``root``: ``query`` (words) or ``clip`` (the id of one of
    its clips, or a video file). ``count`` clips are returned; ``out`` (an .html file, or None)
    gets a contact sheet. ``encoder`` looks at clips; None is the default one.
    """

    root: str
    query: str | None = None
    clip: str | None = None
    count: int = 12
    out: str | None = None
    encoder: EncoderConfig | None = None

    def __post_init__(self) -> None:
        if (self.query is None) == (self.clip is None):
            raise ValueError(f"query={self.query}, clip={self.clip}: exactly one must be given")
        if self.query is not None and not self.query.strip():
            raise ValueError(f"query={self.query!r}: must hold words")
        if self.count < 1:
            raise ValueError(f"count={self.count}: must be at least 1")
        if self.out is not None and not self.out.endswith(".html"):
            raise ValueError(f"out={self.out}: must end in .html")


def visual_embeddings(index: ShardIndex, encoder: Encoder) -> Embeddings:
    """What curation stored, else made now from the encoded clips, and stored.

    Raises ValueError when another encoder made what is there: its vectors cannot be compared.
    """
    there = read_embeddings(index.root)
    if there is not None and there.encoder != encoder.name:
        raise ValueError(
            f"encoder={encoder.name}: {index.root} was embedded with {there.encoder}; use that "
            f"one, or remove {VISUAL}.npy and {VISUAL}.json to embed it anew"
        )
    if there is not None and set(there.keys) == set(index.keys):
        return there
    rows = [_embed_clip(index, key, encoder) for key in tqdm(index.keys, desc="embed", unit="clip")]
    return _store(index, rows, encoder.name, encoder.width, VISUAL)


def caption_embeddings(index: ShardIndex, sentences: Sentences) -> Embeddings:
    """Mean token embedding of every caption; made on the first search, and stored."""
    there = read_embeddings(index.root, CAPTIONS)
    if there is not None and (there.encoder, set(there.keys)) == (sentences.name, set(index.keys)):
        return there
    rows = [sentences.stored(index, key) for key in index.keys]
    return _store(index, rows, sentences.name, sentences.width, CAPTIONS)


def _store(
    index: ShardIndex, rows: list[np.ndarray], encoder: str, width: int, name: str
) -> Embeddings:
    vectors = np.stack(rows) if rows else np.zeros((0, width), np.float32)
    write_embeddings(index.root, index.keys, vectors, encoder, name)
    return Embeddings(keys=tuple(index.keys), vectors=vectors, encoder=encoder)


def _embed_clip(index: ShardIndex, key: str, encoder: Encoder) -> np.ndarray:
    with av.open(io.BytesIO(first_video(index, key)), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    fps = float(index.metadata(key)["fps"])
    return encoder.embed(look_of(frames, len(frames), fps))


class Sentences:
    """One unit vector a text: the mean of its token embeddings, as sentence transformers pool."""

    def __init__(self, name: str = "minilm-l6-v2") -> None:
        self.encoder = text_encoder(name)
        self.name, self.width = name, self.encoder.width

    def embed(self, text: str) -> Float[np.ndarray, " d"]:
        return self._pool(self.encoder.encode([text])[0])

    def stored(self, index: ShardIndex, key: str) -> Float[np.ndarray, " d"]:
        """From the tokens that lie in the shard, if the same encoder made them."""
        data = index.metadata(key)
        if "text.npy" in index.members(key) and data.get("text_encoder") == self.name:
            tokens = np.load(io.BytesIO(index.read(key, "text.npy")), allow_pickle=False)
            return self._pool(tokens)
        return self.embed(str(data.get("caption", "")))

    @staticmethod
    def _pool(tokens: np.ndarray) -> Float[np.ndarray, " d"]:
        return unit(tokens.astype(np.float32).mean(axis=0))


def search(
    root: Path | str,
    query: str | None = None,
    *,
    clip: str | None = None,
    count: int = 12,
    out: str | None = None,
    encoder: EncoderConfig | None = None,
) -> list[Hit]:
    """The nearest clips, best first; arguments and errors as in `SearchConfig`."""
    return run_search(
        SearchConfig(root=str(root), query=query, clip=clip, count=count, out=out, encoder=encoder)
    )


def run_search(config: SearchConfig) -> list[Hit]:
    """Raises ValueError when there are no shards, or ``clip`` is neither an id nor a video."""
    index = ShardIndex.open(config.root)
    scores = _by_words(index, config) if config.query is not None else _by_clip(index, config)
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[: config.count]
    hits = [_hit(index, key, score) for key, score in ranked]
    if config.out is not None:
        write_contact_sheet(index, config.query or str(config.clip), hits, Path(config.out))
    return hits


def _by_words(index: ShardIndex, config: SearchConfig) -> dict[str, float]:
    assert config.query is not None
    sentences = Sentences()
    found = _cosines(caption_embeddings(index, sentences), sentences.embed(config.query))
    encoder = config.encoder.open() if config.encoder is not None else None
    if encoder is None or not encoder.has_text or len(found) < 2:
        return found
    seen = _cosines(visual_embeddings(index, encoder), encoder.embed_text([config.query])[0])
    read, looked = _standardised(found), _standardised(seen)
    return {key: (read[key] + looked[key]) / 2 for key in found}


def _by_clip(index: ShardIndex, config: SearchConfig) -> dict[str, float]:
    assert config.clip is not None
    encoder = (config.encoder or EfficientNetConfig()).open()
    if config.clip in index.keys:
        embeddings = visual_embeddings(index, encoder)
        example = np.asarray(embeddings.vectors[embeddings.keys.index(config.clip)])
    elif Path(config.clip).is_file():
        example = encoder.embed(look_of_file(config.clip))
        embeddings = visual_embeddings(index, encoder)
    else:
        raise ValueError(f"clip={config.clip}: is no video file and no clip of {index.root}")
    found = _cosines(embeddings, example)
    found.pop(config.clip, None)
    return found


def _cosines(embeddings: Embeddings, vector: Float[np.ndarray, " d"]) -> dict[str, float]:
    rows = range(0, len(embeddings.keys), CHUNK)
    parts = [embeddings.vectors[start : start + CHUNK] @ vector for start in rows]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return dict(zip(embeddings.keys, values.astype(float).tolist(), strict=True))


def _standardised(scores: dict[str, float]) -> dict[str, float]:
    values = np.array(list(scores.values()))
    scaled = (values - values.mean()) / max(float(values.std()), 1e-6)
    return dict(zip(scores, scaled.tolist(), strict=True))


def _hit(index: ShardIndex, key: str, score: float) -> Hit:
    data = index.metadata(key)
    return Hit(
        key=key,
        score=round(score, 4),
        caption=str(data.get("caption", "")),
        path=str(data.get("path", "")),
        start_seconds=float(data.get("start_seconds", 0.0)),
    )
