"""Captions: ground truth by overlap, rules otherwise, and sidecars that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.caption import CAMERA, COLOURS, LIGHT, MOTION, describe, read_sidecar
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
    assert made.captions[0].text == describe(clip.tags, key=clip.name)
    assert message in made.provenance["sidecar_error"]


TAGS = ("pan_left", "strong_motion", "dark", "blue")


def wordings(tags: tuple[str, ...], content: str = "") -> set[str]:
    return {describe(tags, content=content, key=str(number)) for number in range(40)}


def test_wordings() -> None:
    assert wordings(TAGS, "content_city_traffic") == {
        "A shot of city traffic that pans to the left, with strong motion, dark, mostly blue.",
        "The camera pans to the left while much of the picture moves, in a scene of city traffic; "
        "the light is dim and the colours are mostly blue.",
        "Panning to the left, the camera shows a scene of city traffic with strong motion in dim "
        "light and mostly blue colours.",
    }
    assert "A static shot with little motion, evenly lit, mostly grey." in wordings(
        ("static_camera", "little_motion", "normal_light", "grey")
    )


def test_a_key_has_one_wording() -> None:
    assert describe(TAGS, key="a") == describe(TAGS, key="a")


def test_no_tags_no_claims() -> None:
    assert wordings(()) == {"A shot."}
    assert wordings(("content_nature", "little_text"), "others") == {"A shot."}
    assert wordings(("dark",), "nature") == {"A shot of nature, dark."}


SAID = {
    "camera": [*CAMERA], "motion": [*MOTION], "light": [*LIGHT], "colour": [*COLOURS],
}  # fmt: skip
FOLLOWS = {
    "pan_left": "left", "pan_right": "right", "tilt_up": "up", "tilt_down": "down",
    "zoom_in": " in", "zoom_out": " out", "roll": "roll", "handheld": "hand", "erratic": "erratic",
    "little_motion": "little", "strong_motion": "trong motion|much", "dark": "dark|dim",
    "bright": "bright", "normal_light": "even",
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(SAID["camera"]), max_size=3, unique=True),
    st.sampled_from(["", *SAID["motion"]]),
    st.sampled_from(["", *SAID["light"]]),
    st.sampled_from(["", *SAID["colour"]]),
    st.sampled_from(["", "nature", "human_motion"]),
    st.integers(0, 50),
)
def test_everything_measured_is_said_and_nothing_else(
    camera, motion, light, colour, content, key
) -> None:
    tags = (*camera, motion, "vlm_x", light, colour)
    text = describe(tags, content=content, key=str(key))
    assert text[0].isupper() and text.endswith(".") and "  " not in text and " ," not in text
    for tag in tags:
        assert tag not in FOLLOWS or re.search(FOLLOWS[tag], text, re.IGNORECASE), (tag, text)
    assert {name for name in COLOURS if name in text.split(" ") or f"{name}." in text} == (
        {colour} - {""}
    )
    assert content.replace("_", " ") in text
    if not motion:
        assert "motion" not in text.replace("human motion", "") and "the picture" not in text
    if not light:
        assert "lit" not in text.split() and "light" not in text
