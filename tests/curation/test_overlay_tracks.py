"""Overlays against text in the scene, on films in which it is known which is which."""

from __future__ import annotations

import json

import numpy as np
import pytest

from openwfm.curation.look import Look
from openwfm.curation.overlay import (
    FindText,
    Track,
    compare,
    count_strokes,
    find_lines,
    find_text,
    link_lines,
    split_windows,
)
from openwfm.curation.record import Clip, Media

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
pytest.importorskip("rapidocr_onnxruntime")

HEIGHT, WIDTH = 180, 320


@pytest.fixture(scope="module")
def stage() -> FindText:
    stage = FindText()
    stage.setup()
    return stage


def panorama(words: str = "") -> np.ndarray:
    """Twice as large as a still, with soft shapes and perhaps a sign."""
    random = np.random.default_rng(0)
    shape = 2 * HEIGHT, 2 * WIDTH
    clouds = random.integers(30, 200, (24, 40, 3), dtype=np.uint8)
    picture = cv2.resize(clouds, shape[::-1], interpolation=cv2.INTER_CUBIC)
    if words:
        cv2.rectangle(picture, (150, 120), (360, 170), (230, 225, 210), -1)
        write(picture, words, (160, 157), (30, 30, 40))
    return picture


def write(picture: np.ndarray, words: str, place: tuple[int, int], ink: tuple[int, ...]) -> None:
    cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.9, ink, 2, cv2.LINE_AA)


def film(count: int, step: float, sign: str = "") -> np.ndarray:
    """A camera that goes ``step`` pixels to the right from still to still."""
    wide = panorama(sign)
    views = []
    for index in range(count):
        matrix = np.float32([[1, 0, -100 - step * index], [0, 1, -80]])
        views.append(cv2.warpAffine(wide, matrix, (WIDTH, HEIGHT)))
    return np.stack(views)


def look(stills: np.ndarray, spacing: float = 0.5) -> Look:
    return Look(
        fps=24.0,
        stills=stills,
        still_times=np.arange(len(stills)) * spacing,
        pairs=np.zeros((0, 2, 8, 8), np.uint8),
        pair_times=np.zeros(0),
        gaps=np.zeros(0),
        thumbs=np.zeros((len(stills), 64, 64), np.uint8),
    )


def with_words(stills: np.ndarray, seen: range | None = None) -> np.ndarray:
    out = stills.copy()
    for index in seen if seen is not None else range(len(out)):
        write(out[index], "CITY NEWS", (20, 160), (255, 255, 255))
    return out


def scores(stage: FindText, stills: np.ndarray, spacing: float = 0.5) -> dict[str, float]:
    return find_text(look(stills, spacing), stage.detector)[0]


@pytest.mark.parametrize("step", [0, 3, 12])
def test_an_overlay_is_found_whatever_the_camera_does(stage, step) -> None:
    found = scores(stage, with_words(film(6, step)))
    assert found["overlay"] > 0.7 and found["text_boxes"] >= 1 and found["text_area"] > 0.02


def test_a_caption_for_a_second_and_a_half_is_found(stage) -> None:
    assert scores(stage, with_words(film(6, 6), range(2, 5)))["overlay"] > 0.7


@pytest.mark.parametrize("step", [2.5, 6, 14])
def test_a_sign_that_moves_with_the_scene_is_no_overlay(stage, step) -> None:
    assert scores(stage, film(6, step, "OLD MILL"))["overlay"] < 0.3


def test_both_at_once(stage) -> None:
    found, evidence = find_text(look(with_words(film(6, 4, "OLD MILL"))), stage.detector)
    assert found["overlay"] > 0.7
    assert max(max(track["shifts"]) for track in evidence["tracks"]) > 2


def test_stills_that_are_far_apart(stage) -> None:
    """A long clip: the caption is on two stills only, five seconds apart."""
    stills = with_words(film(8, 9), range(3, 5))
    assert scores(stage, stills, spacing=2.5)["overlay"] > 0.7
    assert scores(stage, film(8, 9, "OLD MILL"), spacing=2.5)["overlay"] < 0.1


def test_no_text_and_one_still(stage) -> None:
    empty = {"overlay": 0.0, "text_area": 0.0, "text_boxes": 0.0}
    assert scores(stage, film(5, 4)) == empty
    assert scores(stage, film(1, 0)) == empty
    assert scores(stage, with_words(film(1, 0)))["overlay"] == 0
    assert scores(stage, with_words(film(2, 8)))["overlay"] > 0.7


def test_a_title_card_covers_the_picture(stage) -> None:
    card = np.full((HEIGHT, WIDTH, 3), (40, 20, 60), np.uint8)
    for line in range(3):
        write(card, "PART TWO OF IT", (30, 45 + 50 * line), (240, 240, 230))
    found = scores(stage, np.stack([card] * 4))
    assert found["overlay"] > 0.7 and 0.15 < found["text_area"] < 0.3 and found["text_boxes"] == 3


def test_the_stage_adds_scores_and_plain_evidence(stage) -> None:
    record = Clip(
        source="s", path="p", start_frame=0, end_frame=1, start_seconds=0.0, end_seconds=1.0,
        scores={"blur": 1.0}, evidence={"quality": {}},
        media=Media(video=b"", look=look(with_words(film(5, 4)))),
    )  # fmt: skip
    again = FindText()
    again.setup()
    [one], [other] = stage.process(record), again.process(record)
    assert json.dumps([one.scores, one.evidence]) == json.dumps([other.scores, other.evidence])
    assert one.scores["blur"] == 1 and one.evidence["quality"] == {}
    assert all(type(value) is float for value in one.scores.values())
    assert len(json.dumps(one.evidence)) < 4000


def test_equal_medians_are_looked_at_once() -> None:
    calls = []

    def detector(picture: np.ndarray) -> np.ndarray:
        calls.append(picture)
        return np.zeros((0, 6))

    groups = [np.full((3, 8, 8, 3), level, np.uint8) for level in (5, 5, 5, 9, 9, 5)]
    assert len(find_lines(groups, detector)) == 6
    assert [int(picture[0, 0, 0]) for picture in calls] == [5, 9, 5]


@pytest.mark.parametrize("count", range(1, 25))
def test_windows_cover_all_stills(count: int) -> None:
    for spacing in (0.5, 3.0):
        windows = split_windows(look(np.zeros((count, 2, 2, 3), np.uint8), spacing))
        covered = {i for window in windows for i in range(window.start, window.stop)}
        assert covered == set(range(count))
        assert {w.stop - w.start for w in windows} == {min(count, 3 if spacing < 1 else 1)}


def test_links_follow_slow_lines_and_bridge_gaps() -> None:
    """Two lines that approach each other, one of which is missed once; a third comes late."""

    def line(left: float, top: float) -> list[float]:
        return [left, top, left + 0.3, top + 0.1, 0.9, 0.0]

    rows = [
        [line(0.1, 0.1), line(0.6, 0.1)],
        [line(0.58, 0.1), line(0.12, 0.1)],
        [line(0.14, 0.1)],
        [line(0.16, 0.1), line(0.54, 0.1), line(0.3, 0.8)],
    ]
    tracks = link_lines([np.array(row) for row in rows])
    assert tracks == [[(0, 0), (1, 1), (2, 0), (3, 0)], [(0, 1), (1, 0), (3, 1)], [(3, 2)]]


@pytest.mark.parametrize("move", [0, 1, 3, 7])
def test_shift_is_in_pixels(move: int) -> None:
    """The first still is taken for the pattern and left out."""
    stills = film(3, move)
    box = np.array([0.3, 0.3, 0.6, 0.5, 0.9, 0.0])
    shifts, likeness, _ = compare(cv2, stills, stills[:1], box)
    np.testing.assert_array_equal(shifts, [move, 2 * move])
    assert min(likeness) > 0.98


def test_confidence_falls_with_drift_and_tilt_and_needs_a_second_still() -> None:
    def confidence(**changes: object) -> float:
        values = {"box": (0.4, 0.4, 0.6, 0.5), "seen": (0,), "score": 0.8, "tilt": 0.0}
        still = {"aspect": 4.0, "strokes": 12.0, "shifts": (0.0, 0.0), "likeness": (1.0, 0.9)}
        return Track(**{**values, **still, **changes}).confidence  # type: ignore[arg-type]

    assert confidence() == 0.8
    assert confidence(shifts=(1.0, 1.0)) == pytest.approx(0.4)
    assert confidence(tilt=4.0) == pytest.approx(0.4)
    assert confidence(likeness=(0.25, 0.2)) == 0
    assert confidence(shifts=(), likeness=()) == 0
    assert confidence(aspect=0.5) == 0
    assert confidence(strokes=3.0) == 0
    assert confidence(strokes=6.0, box=(0.1, 0.2, 0.8, 0.6)) == 0
    assert confidence(strokes=9.0, box=(0.1, 0.2, 0.8, 0.6)) == 0.8
    assert confidence(shifts=(2.0, 3.0)) == 0
    assert confidence(shifts=(2.0, 2.0), box=(0.02, 0.02, 0.1, 0.06)) == pytest.approx(0.4)
    # A caption that is gone in the second still, where nothing like it is found.
    assert confidence(shifts=(0.0, 7.0), likeness=(0.9, 0.4)) > 0.7
    assert confidence(shifts=(0.0, 7.0), likeness=(0.9, 0.9)) == pytest.approx(0.4, abs=0.01)


def test_strokes_are_counted() -> None:
    bars = np.zeros((10, 80, 3), np.uint8)
    bars[2:8, 10:70] = np.where(np.arange(60) % 20 < 10, 200, 0)[None, :, None]
    assert count_strokes(cv2, bars) == 6
    assert count_strokes(cv2, np.full((5, 9, 3), 7, np.uint8)) == 0


def test_one_thing_on_a_plain_ground_is_no_line() -> None:
    """What the detector takes for a large letter."""
    still = np.full((HEIGHT, WIDTH, 3), (90, 100, 120), np.uint8)
    cv2.circle(still, (150, 90), 40, (20, 160, 170), -1)

    class Detector:
        def __init__(self) -> None:
            self.cv2 = cv2

        def __call__(self, picture: np.ndarray) -> np.ndarray:
            return np.array([[0.3, 0.2, 0.65, 0.8, 0.95, 0.0]])

    found, _ = find_text(look(np.stack([still] * 4)), Detector())
    assert found["overlay"] == 0 and found["text_boxes"] == 1
