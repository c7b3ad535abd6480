"""Captions: ground truth by overlap, rules otherwise, and sidecars that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openwfm.curation.caption import describe, read_sidecar
from openwfm.curation.captioner import WriteCaption
from openwfm.curation.record import Clip, Source


def sidecar(folder: Path, **changes: object) -> Path:
    data = {
        "schema": 1,
        "kind": "simulated",
        "license": "CC0",
        "shots_captions": [
            {"start": 0, "end": 50, "caption": "first"},
            {"start": 50, "end": 100, "caption": "second"},
            {"start": 100, "end": 120, "caption": None},
        ],
    }
    (folder / "a.json").write_text(json.dumps(data | changes))
    return folder / "a.mp4"


@pytest.mark.parametrize(
    "start, end, caption",
    [
        (0, 50, "first"),
        (40, 90, "second"),
        (30, 80, "second"),
        (90, 130, None),
        (100, 120, None),
        (200, 210, None),
    ],
)
def test_overlap(tmp_path, start, end, caption) -> None:
    found = read_sidecar(sidecar(tmp_path))
    assert found is not None and found.caption(start, end) == caption


def test_no_sidecar(tmp_path) -> None:
    assert read_sidecar(tmp_path / "a.mp4") is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"schema": 2}, "a.json: schema"),
        ({"shots_captions": "x"}, "a.json: shots_captions"),
        ({"shots_captions": [{"start": 0, "caption": "x"}]}, "a.json: shots_captions"),
        ({"shots_captions": ["x"]}, "a.json: shots_captions"),
    ],
)
def test_broken_sidecar_is_named_and_costs_only_itself(tmp_path, changes, message) -> None:
    video = sidecar(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        read_sidecar(video)
    origin = Source(id="s", path="a.mp4", num_bytes=1, file=video)
    clip = Clip(
        source="s", path="a.mp4", origin=origin, start_frame=0, end_frame=50, start_seconds=0,
        end_seconds=2, tags=("pan_left", "strong_motion", "dark", "blue"),
    )  # fmt: skip
    (made,) = WriteCaption().process(clip)
    assert made.captions[0].source == "rules"
    assert (
        made.captions[0].text
        == "A shot that pans to the left with strong motion, dark, mostly blue."
    )
    assert message in made.provenance["sidecar_error"]


def test_rules_say_only_what_was_measured() -> None:
    assert describe(("static_camera", "little_motion", "normal_light", "grey")) == (
        "A static shot with little motion, evenly lit, mostly grey."
    )
