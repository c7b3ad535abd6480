"""Stage: what a clip shows, by the taxonomy of arXiv 2501.03575, section 3.2.3.

Two ways to one answer: similarity to descriptions, where the encoder has a text tower, else a small
network on the embedding that knows the categories it was trained on and says ``other`` beyond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from openwfm.curation.features import EfficientNetConfig, Encoder, EncoderConfig
from openwfm.curation.record import Clip, Record

OTHER = "other"
EXCLUDED = ("abstract_patterns", "game_footage", "animation")
DESCRIPTIONS: Mapping[str, tuple[str, ...]] = {
    "driving": ("a video of driving on a road", "the view from a car in traffic"),
    "hand_manipulation": ("hands handling an object", "a robot arm moving objects on a table"),
    "human_motion": ("a person moving", "people doing sports or dancing"),
    "spatial_navigation": ("walking through a building", "a tour through the rooms of a house"),
    "first_person": ("a first-person view of daily life", "a video from a head-mounted camera"),
    "nature_dynamics": ("a landscape with water, clouds or fire", "animals in the wild"),
    "dynamic_camera": ("a fast camera flight", "an aerial video from a drone"),
    "synthetic_renders": ("a 3D rendering of objects", "a physics simulation"),
    OTHER: ("a video", "people talking"),
    "abstract_patterns": ("abstract moving patterns", "a title card or a chart, flat graphics"),
    "game_footage": ("a screen recording of a video game", "video game footage"),
    "animation": ("a cartoon", "an animated film"),
}
CATEGORIES = tuple(DESCRIPTIONS)
# Cosines of dual towers lie close together; CLIP's learnt scale makes them probabilities.
TEXT_SCALE = 100.0
HEAD = Path(__file__).parent / "assets" / "content_head.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A network of one hidden layer over embeddings, and how near to its classes it may speak.

    Class k stands for ``categories[k]``; with the unit vector ``centres[k]`` an embedding must have
    a cosine of at least ``reach[k]``, or its probability goes to ``other``.
    """

    categories: tuple[str, ...]
    encoder: str
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    out_weight: np.ndarray
    out_bias: np.ndarray
    centres: np.ndarray
    reach: np.ndarray

    def probabilities(self, embedding: Float[np.ndarray, " d"]) -> dict[str, float]:
        """Of every category that the head knows, and of ``other``; they add up to 1."""
        hidden = np.maximum(self.hidden_weight @ embedding + self.hidden_bias, 0)
        scores = softmax(self.out_weight @ hidden + self.out_bias)
        within = self.centres @ embedding >= self.reach
        found = dict.fromkeys((*self.categories, OTHER), 0.0)
        for name, score, near in zip(self.categories, scores, within, strict=True):
            found[name if near else OTHER] += float(score)
        return found


def softmax(scores: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def save_head(path: Path, head: Head) -> None:
    from safetensors.numpy import save_file

    from openwfm.files import atomic_path

    arrays = {
        name: np.ascontiguousarray(value, dtype=np.float32)
        for name, value in vars(head).items()
        if isinstance(value, np.ndarray)
    }
    facts = {"categories": ",".join(head.categories), "encoder": head.encoder}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata=facts)


def load_head(path: Path) -> Head:
    """Raises ValueError when the file is absent, or names categories that there are not."""
    from safetensors import safe_open

    if not path.is_file():
        raise ValueError(f"content.head={path}: no such file")
    with safe_open(path, framework="np") as file:
        facts = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    categories = tuple(facts.get("categories", "").split(","))
    unknown = sorted(set(categories) - set(CATEGORIES))
    if unknown:
        raise ValueError(f"{path}: categories {unknown}: must be among {', '.join(CATEGORIES)}")
    return Head(categories=categories, encoder=facts.get("encoder", ""), **arrays)


def by_description(
    embedding: Float[np.ndarray, " d"], descriptions: Float[np.ndarray, "k d"]
) -> dict[str, float]:
    """Probability of each category from the cosine to its mean description."""
    scores = softmax(TEXT_SCALE * (descriptions @ embedding))
    return dict(zip(CATEGORIES, scores.astype(float).tolist(), strict=True))


def describe_categories(encoder: Encoder) -> Float[np.ndarray, "k d"]:
    """Unit mean of each category's descriptions."""
    rows = [encoder.embed_text(texts).mean(axis=0) for texts in DESCRIPTIONS.values()]
    return np.stack([row / np.linalg.norm(row) for row in rows])


def verdict(probabilities: Mapping[str, float], known: Sequence[str]) -> dict[str, Any]:
    """Plain JSON: ``category``, the three likeliest with their probabilities, and ``known``."""
    ranked = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
    return {
        "category": ranked[0][0],
        "top": [[name, round(value, 6)] for name, value in ranked[:3]],
        "known": list(known),
    }


class ClassifyContent:
    """Scores ``content_confidence`` (of the likeliest category) and ``content_excluded`` (sum over
    abstract patterns, game footage and animation), both in [0, 1]; the tag ``content_<category>``.

    An embedding of the same encoder that an earlier stage made is used, else one is made and left
    for `EmbedClip`. ``head`` None is the published one; encoders with a text tower need none.
    """

    name = "content"
    accepts = Clip

    def __init__(self, config: EncoderConfig | None = None, head: Path | str | None = None) -> None:
        self.config: EncoderConfig = config or EfficientNetConfig()
        self.head_path = Path(head) if head is not None else HEAD
        self.encoder: Encoder | None = None
        self.head: Head | None = None
        self.descriptions: np.ndarray | None = None

    def setup(self) -> None:
        """Raises ValueError when the head was trained on embeddings of another encoder."""
        self.encoder = self.config.open()
        if self.encoder.has_text:
            self.descriptions = describe_categories(self.encoder)
            return
        self.head = load_head(self.head_path)
        if self.head.encoder != self.encoder.name:
            raise ValueError(
                f"content.head={self.head_path}: was trained on {self.head.encoder}, not on "
                f"{self.encoder.name}"
            )

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None
        assert self.encoder is not None and record.media.look is not None
        media = record.media
        embedding = media.embedding
        if embedding is None:
            embedding = self.encoder.embed(record.media.look)
            media = replace(media, embedding=embedding)
        if self.head is not None:
            found, known = self.head.probabilities(embedding), self.head.categories
        else:
            assert self.descriptions is not None
            found, known = by_description(embedding, self.descriptions), CATEGORIES
        facts = {"encoder": self.encoder.name, **verdict(found, known)}
        scores = {
            "content_confidence": round(max(found.values()), 6),
            "content_excluded": round(sum(found.get(name, 0.0) for name in EXCLUDED), 6),
        }
        return [
            replace(
                record,
                scores={**record.scores, **scores},
                tags=(*record.tags, f"content_{facts['category']}"),
                evidence={**record.evidence, self.name: facts},
                media=media,
            )
        ]
