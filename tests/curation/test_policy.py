"""The policy decides from scores alone, and rejects bad thresholds by key, value and rule."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from openwfm.config import build, compose
from openwfm.curation.config import CurationConfig
from openwfm.curation.policy import PolicyConfig
from openwfm.curation.record import Clip

POLICY = PolicyConfig(
    min_seconds=1, max_seconds=10, max_frozen=0.8, min_moving=0.01, min_luma=40,
    duplicate_distance=1,
)  # fmt: skip
CLIP = Clip(
    source="s", path="p", start_frame=0, end_frame=48, start_seconds=0, end_seconds=2,
    scores={"luma_p95": 200.0, "frozen": 0.1, "moving": 0.2},
)  # fmt: skip


@pytest.mark.parametrize(
    "scores, reason",
    [
        ({}, None),
        ({"luma_p95": 39.0}, "black"),
        ({"frozen": 0.81}, "frozen"),
        ({"frozen": 0.8}, None),
        ({"moving": 0.0}, "static"),
        ({"luma_p95": 1.0, "frozen": 1.0, "moving": 0.0}, "black"),
    ],
)
def test_content(scores, reason) -> None:
    verdict = POLICY.content(replace(CLIP, scores=CLIP.scores | scores))
    assert (verdict and verdict[0]) == reason


def test_duration() -> None:
    assert POLICY.duration(CLIP) is None
    verdict = POLICY.duration(replace(CLIP, end_seconds=0.9))
    assert verdict is not None and verdict[0] == "too_short"


@pytest.mark.parametrize(
    "key, value",
    [
        ("min_seconds", 0),
        ("min_seconds", 11),
        ("max_frozen", 1.1),
        ("min_moving", -1),
        ("min_luma", 256),
    ],
)
def test_bad_thresholds_name_key_and_value(key, value) -> None:
    with pytest.raises(ValueError, match=rf"policy\.{key}={value}: must be"):
        PolicyConfig(**asdict(POLICY) | {key: value})


@pytest.mark.parametrize(
    "key, value",
    [("size", 15), ("size", 63), ("fps", 0), ("crf", 52), ("workers", -1), ("threshold", 1)],
)
def test_bad_settings_name_key_and_value(tmp_path, key, value) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=rf"curation\.{key}={value}: must be"):
        CurationConfig(
            **{
                "source": str(tmp_path / "raw"),
                "out": str(tmp_path / "out"),
                "policy": POLICY,
                key: value,
            }
        )


@pytest.mark.parametrize("out", [".", "raw", "raw/shards"])
def test_output_may_not_become_input(tmp_path, out) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=r"curation\.out=.*must lie outside"):
        CurationConfig(source=str(tmp_path / "raw"), out=str(tmp_path / out), policy=POLICY)


def test_shipped_config_builds(tmp_path) -> None:
    (tmp_path / "raw").mkdir()
    config = compose("curate", [f"in={tmp_path}/raw", f"out={tmp_path}/out", "size=32"])
    built = build(config.curation)
    assert isinstance(built, CurationConfig) and built.size == 32
    assert isinstance(built.policy, PolicyConfig)
