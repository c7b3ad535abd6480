"""Content types: the head's arithmetic, its reach, its file, and the published one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curation_videos import scene

from openwfm.benchmarks.content import train_head, whitening_of, wilson
from openwfm.benchmarks.footage import drawn
from openwfm.curation.content import (
    CATEGORIES,
    EXCLUDED,
    HEAD,
    ClassifyContent,
    Head,
    by_description,
    load_head,
    save_head,
    softmax,
    verdict,
)
from openwfm.curation.features import unit
from openwfm.curation.record import Clip, Media
from openwfm.curation.watch import look_of


def small_head() -> Head:
    """Two classes, on the first two axes."""
    return Head(
        categories=("driving", "animation"), encoder="e",
        hidden_weight=np.eye(3, dtype=np.float32), hidden_bias=np.zeros(3, np.float32),
        out_weight=np.array([[4, 0, 0], [0, 4, 0]], np.float32), out_bias=np.zeros(2, np.float32),
        centres=np.eye(3, dtype=np.float32)[:2], reach=np.array([0.5, 0.5], np.float32),
    )  # fmt: skip


def test_beyond_its_reach_the_head_says_other() -> None:
    head = small_head()
    near = head.probabilities(np.array([1, 0, 0], np.float32))
    share = np.exp(4) / (np.exp(4) + 1)
    assert near["driving"] == pytest.approx(share) and near["animation"] == 0
    assert near["other"] == pytest.approx(1 - share)
    far = head.probabilities(np.array([0, 0, 1], np.float32))
    assert far == {"driving": 0, "animation": 0, "other": pytest.approx(1)}


def test_probabilities_add_up_whatever_comes() -> None:
    random, head = np.random.default_rng(0), load_head(HEAD)
    for vector in unit(random.standard_normal((50, head.centres.shape[1])).astype(np.float32)):
        found = head.probabilities(vector)
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        assert min(found.values()) >= 0 and set(found) == {*head.categories, "other"}


def test_a_head_goes_through_its_file(tmp_path: Path) -> None:
    head = small_head()
    save_head(tmp_path / "head.safetensors", head)
    again = load_head(tmp_path / "head.safetensors")
    for name, value in vars(head).items():
        assert np.array_equal(getattr(again, name), value), name
    save_head(tmp_path / "bad.safetensors", replace(head, categories=("driving", "dancing")))
    with pytest.raises(ValueError, match="dancing"):
        load_head(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"content\.head=.*no such file"):
        load_head(tmp_path / "none.safetensors")


def test_a_head_of_another_encoder_is_refused(tmp_path: Path) -> None:
    save_head(tmp_path / "head.safetensors", small_head())
    stage = ClassifyContent(head=tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match="was trained on e, not on efficientnet-lite0"):
        stage.setup()


def test_softmax_and_descriptions() -> None:
    scores = softmax(np.array([1000.0, 999.0, -1000.0]))
    assert scores == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0])
    descriptions = np.eye(len(CATEGORIES), dtype=np.float32)
    found = by_description(descriptions[3], descriptions)
    assert max(found, key=lambda name: found[name]) == CATEGORIES[3]
    facts = verdict(found, CATEGORIES)
    assert facts["top"][0] == [CATEGORIES[3], 1.0] and len(facts["top"]) == 3
    # Ties are broken by name, so that every process says the same.
    assert verdict({"b": 0.5, "a": 0.5}, ())["category"] == "a"
    assert set(EXCLUDED) < set(CATEGORIES)


def test_the_head_learns_classes_that_can_be_parted() -> None:
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((3, 20)))
    labels = [CATEGORIES[k] for k in range(3) for _ in range(30)]
    noise = 0.1 * random.standard_normal((90, 20))
    vectors = unit(np.repeat(centres, 30, axis=0) + noise).astype(np.float32)
    head, same = (train_head(vectors[::2], labels[::2], "e") for _ in range(2))
    assert all(np.array_equal(getattr(same, name), value) for name, value in vars(head).items())
    said = [head.probabilities(vector) for vector in vectors[1::2]]
    assert [max(p, key=lambda name: p[name]) for p in said] == labels[1::2]
    stranger = unit(-centres.sum(axis=0)[None]).astype(np.float32)[0]
    assert head.probabilities(stranger)["other"] == pytest.approx(1, abs=1e-5)


def test_whitening_makes_directions_alike() -> None:
    """Data with variances from 1 to 400: after it no direction has ten times another's."""
    random = np.random.default_rng(0)
    data = np.concatenate(
        [random.standard_normal((300, 6)) * np.arange(1, 7) ** 1.6, np.zeros((300, 1274))], axis=1
    ).astype(np.float32)
    found = whitening_of(data, 0.01 * random.standard_normal((50, 1280)))
    assert found.matrix.shape == (1280, 207)
    white = (data - found.mean.astype(np.float32)) @ found.matrix.astype(np.float32)
    before, after = (np.linalg.eigvalsh(np.cov(x.T))[-6:] for x in (data, white))
    assert before[-1] / before[0] > 100 > 40 > after[-1] / after[0]


def test_wilson_is_the_textbook_interval() -> None:
    assert wilson(90, 100) == (0.8256, 0.9448)
    low, high = wilson(10, 10)
    assert low == pytest.approx(0.7225, abs=1e-3) and high == 1.0


def test_the_stage_knows_flat_graphics_and_is_modest_about_the_rest() -> None:
    stage = ClassifyContent()
    stage.setup()
    said = []
    pieces = [(p.frames, p.fps) for p in drawn(5, seed=99)] + [(scene(12, seed=5), 24.0)]
    for frames, fps in pieces:
        clip = Clip(
            source="s", path="p", start_frame=0, end_frame=9, start_seconds=0.0, end_seconds=0.5,
            tags=("before",), media=Media(video=b"", look=look_of(frames, len(frames), fps)),
        )  # fmt: skip
        first, second = stage.process(clip)[0], stage.process(clip)[0]
        assert isinstance(first, Clip) and isinstance(second, Clip)
        assert json.dumps(first.evidence) == json.dumps(second.evidence)
        assert first.media is not None and first.media.embedding is not None
        facts = first.evidence["content"]
        assert first.tags == ("before", f"content_{facts['category']}")
        assert 0 <= first.scores["content_excluded"] <= 1
        assert first.scores["content_confidence"] == facts["top"][0][1]
        said.append(facts["category"])
    assert said[:5].count("abstract_patterns") >= 4
    assert set(said) <= {*facts["known"], "other"}
