"""The policy decides from scores alone, and rejects bad tables by key, value and rule."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.config import build, compose, config_folder
from openwfm.curation.config import CurationConfig
from openwfm.curation.policy import DedupConfig, PolicyConfig, Rule, content_category
from openwfm.curation.record import Clip

NANO = build(compose("curate", ["in=/", "out=/x"]).curation.policy)
CLIP = Clip(
    source="s", path="p", start_frame=0, end_frame=48, start_seconds=0, end_seconds=2,
    scores={"black": 0.0, "frozen": 0.1, "moving": 0.2, "seconds": 2.0},
)  # fmt: skip


def scored(**scores: float) -> Clip:
    return replace(CLIP, scores=CLIP.scores | scores)


@pytest.mark.parametrize(
    "scores, reason",
    [
        ({}, None),
        ({"black": 0.51}, "black"),
        ({"frozen": 0.61}, "frozen"),
        ({"frozen": 0.6}, None),
        ({"moving": 0.0}, "static"),
        ({"seconds": 0.99}, "too_short"),
        ({"seconds": 1.0}, None),
        ({"black": 1.0, "frozen": 1.0, "moving": 0.0}, "black"),
        ({"moving": math.nan}, "static"),
    ],
)
def test_the_first_rule_that_fails_is_the_reason(scores, reason) -> None:
    (verdict,) = NANO.verdicts([scored(**scores)])
    assert (verdict and verdict[0]) == reason


values = st.lists(st.floats(0, 1), max_size=40)


@settings(deadline=None)
@given(values, st.floats(0.01, 0.99))
def test_drop_lowest_is_a_share_and_never_drops_above_what_it_keeps(numbers, share) -> None:
    policy = PolicyConfig(rules={"low": {"score": "q", "drop_lowest": share}})
    verdicts = policy.verdicts([scored(q=number) for number in numbers])
    dropped = [n for n, verdict in zip(numbers, verdicts, strict=True) if verdict]
    kept = [n for n, verdict in zip(numbers, verdicts, strict=True) if not verdict]
    assert len(dropped) <= share * len(numbers)
    assert not dropped or not kept or max(dropped) < min(kept)
    if len(set(numbers)) == len(numbers):
        assert len(dropped) == math.floor(share * len(numbers))


def test_quantiles_count_only_what_earlier_rules_kept() -> None:
    clips = [scored(q=q, moving=0.0 if q < 50 else 1.0) for q in range(100)]
    policy = PolicyConfig(
        rules={"static": Rule(score="moving", min=0.5), "low": Rule(score="q", drop_lowest=0.1)}
    )
    reasons = [verdict and verdict[0] for verdict in policy.verdicts(clips)]
    assert reasons == ["static"] * 50 + ["low"] * 5 + [None] * 45


def test_verdicts_do_not_depend_on_the_order_of_clips() -> None:
    random = np.random.default_rng(0)
    clips = [scored(q=float(q), moving=float(m)) for q, m in random.random((50, 2)).round(1)]
    policy = PolicyConfig(
        rules={"static": Rule(score="moving", min=0.3), "low": Rule(score="q", drop_lowest=0.3)}
    )
    straight, order = policy.verdicts(clips), random.permutation(50)
    mixed = policy.verdicts([clips[at] for at in order])
    assert mixed == [straight[at] for at in order]


def test_a_missing_score_names_those_that_there_are() -> None:
    policy = PolicyConfig(rules={"ugly": {"score": "beauty", "min": 1}})
    with pytest.raises(ValueError, match=r"rules\.ugly\.score=beauty.*known: black, frozen"):
        policy.verdicts([CLIP])
    assert policy.verdicts([]) == []


def test_content_is_excluded_and_weighted() -> None:
    policy = PolicyConfig(
        rules={}, exclude_content=("animation",), weights={"human_motion": 2.0, "nature": 0.5}
    )
    clips = [
        replace(CLIP, tags=("dark", f"content_{name}"))
        for name in ("human_motion", "animation", "nature", "other")
    ]
    verdicts = policy.verdicts(clips)
    assert verdicts == [None, ("content", "animation"), None, None]
    assert [policy.weight(clip) for clip in clips] == [2.0, 1.0, 0.5, 1.0]
    assert content_category(CLIP) is None
    for needy in (policy, PolicyConfig(rules={}, weights={"a": 2})):
        with pytest.raises(ValueError, match=r"policy\.weights: clip .* has no tag content_"):
            needy.weight(CLIP)
    assert NANO.weight(CLIP) == 1.0


@pytest.mark.parametrize(
    "table, message",
    [
        ({"x": {"score": "a"}}, r"rules\.x\.score=a: one of min, max and drop_lowest"),
        ({"x": {"min": 1}}, r"rules\.x\.score: missing"),
        ({"x": {"score": "a", "mim": 1}}, r"rules\.x\.mim: unknown key; valid keys: score, min"),
        ({"x": {"score": "a", "min": 2, "max": 1}}, r"rules\.x\.min=2: must be at most max=1"),
        ({"x": {"score": "a", "min": "2"}}, r"rules\.x\.min='2': must be a finite number"),
        ({"x": {"score": "a", "max": math.inf}}, r"rules\.x\.max=inf: must be a finite"),
        ({"x": {"score": "a", "drop_lowest": 1}}, r"rules\.x\.drop_lowest=1: must be between"),
        ({"x": 3}, r"rules\.x=3: must be a table of score, min, max, drop_lowest"),
        ({"content": {"score": "a", "min": 1}}, r"rules\.content: is the reason of policy\.excl"),
    ],
)
def test_bad_tables_name_key_value_and_rule(table, message) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyConfig(rules=table)


def test_weights_and_distances_are_checked() -> None:
    with pytest.raises(ValueError, match=r"policy\.weights\.a=0: must be above 0"):
        PolicyConfig(rules={}, weights={"a": 0})
    with pytest.raises(ValueError, match=r"policy\.dedup\.copies=2: must be in"):
        DedupConfig(copies=2)
    with pytest.raises(ValueError, match=r"target_fraction=0.3: must be null when"):
        DedupConfig(epsilon=0.1, target_fraction=0.3)


@pytest.mark.parametrize(
    "key, value",
    [
        ("size", 15), ("size", 63), ("fps", 0), ("crf", 52), ("workers", -1), ("threshold", 1),
        ("engine", "spark"), ("aspect", "wide"), ("max_seconds", 0), ("max_seconds", 601),
        ("min_shot_seconds", 11),
    ],
)  # fmt: skip
def test_bad_settings_name_key_and_value(tmp_path, key, value) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=rf"curation\.{key}={value}: must be"):
        CurationConfig(
            **{
                "source": str(tmp_path / "raw"),
                "out": str(tmp_path / "out"),
                "policy": NANO,
                key: value,
            }
        )


@pytest.mark.parametrize(
    "source, out",
    [
        ("{}/raw", "{}"), ("{}/raw", "{}/raw"), ("{}/raw", "{}/raw/shards"),
        ("{}/raw", "file://{}/raw/shards"), ("{}/raw", "{}/link/shards"),
        ("s3://a/raw", "s3://a/raw/out"), ("s3://a/raw/", "s3://a"),
    ],
)  # fmt: skip
def test_output_may_not_become_input(tmp_path, source, out) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"curation\.out=.*must lie outside"):
        CurationConfig(source=source.format(tmp_path), out=out.format(tmp_path), policy=NANO)


def test_a_store_of_one_process_takes_one_process() -> None:
    with pytest.raises(ValueError, match=r"curation\.source=memory://raw: memory:// is one proc"):
        CurationConfig(source="memory://raw", out="/x", policy=NANO, workers=2)


def test_shipped_config_names_every_field_with_its_default(tmp_path) -> None:
    (tmp_path / "raw").mkdir()
    config = compose("curate", [f"in={tmp_path}/raw", f"out={tmp_path}/out"])
    built = build(config.curation)
    optional = {"aesthetic", "rewrite", "vlm"}  # groups whose default choice is none
    names = {item.name for item in fields(CurationConfig)} - optional
    assert set(config.curation) == {"_target_", *names}
    for item in fields(CurationConfig):
        if item.default is not MISSING:
            assert getattr(built, item.name) == item.default, item.name
    assert set(config.curation.policy) == {
        "_target_", *(item.name for item in fields(PolicyConfig))
    }  # fmt: skip
    assert built.policy.dedup == DedupConfig()


@pytest.mark.parametrize(
    "preset", sorted(f.stem for f in (config_folder() / "curation/policy").glob("*.yaml"))
)
def test_every_preset_builds(tmp_path, preset) -> None:
    overrides = [f"in={tmp_path}", "out=/x", f"curation/policy={preset}", "max_seconds=60"]
    built = build(compose("curate", overrides).curation)
    assert built.policy.rules["too_short"].score == "seconds"
