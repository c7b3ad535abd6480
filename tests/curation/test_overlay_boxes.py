"""The text detector: against the package's own detector, and on maps whose islands are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.overlay import overlap
from openwfm.curation.textboxes import TextDetector, find_boxes

cv2 = pytest.importorskip("cv2")
rapidocr = pytest.importorskip("rapidocr_onnxruntime")


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector()


def written(height: int, width: int, share: float, words: str = "Hello there") -> np.ndarray:
    """White words, ``share`` of the height high, on coloured clouds."""
    random = np.random.default_rng(0)
    clouds = random.integers(40, 150, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    scale = share * height / 22
    place = width // 10, height // 2
    thickness = max(1, round(2 * scale))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, words, place, font, scale, (245, 245, 245), thickness, cv2.LINE_AA)
    return picture


@pytest.mark.parametrize("share", [0.05, 0.12])
def test_boxes_are_those_of_the_package(detector, share: float) -> None:
    """At a size that neither scales."""
    from rapidocr_onnxruntime.ch_ppocr_det import TextDetector as Reference

    model = Path(rapidocr.__file__).parent / "models" / "ch_PP-OCRv4_det_infer.onnx"
    reference = Reference(
        {
            "model_path": str(model), "limit_side_len": 640, "limit_type": "max", "thresh": 0.3,
            "box_thresh": 0.6, "unclip_ratio": 1.6, "use_dilation": True, "score_mode": "slow",
            "intra_op_num_threads": 1,
        }
    )  # fmt: skip
    picture = written(352, 640, share)
    picture[300:330] = written(352, 640, 0.05, "another line")[150:180]
    corners, _ = reference(picture[..., ::-1])
    theirs = [[*box.min(axis=0), *box.max(axis=0)] for box in corners]
    ours = detector(picture)
    assert len(ours) == len(theirs) >= 1
    for box in np.array(theirs) / (640, 352, 640, 352):
        assert max(overlap(box, other) for other in ours) > 0.75


def test_nothing_where_nothing_is_written(detector) -> None:
    assert detector(written(240, 320, 0.1, "")).shape == (0, 6)
    assert detector(np.zeros((64, 64, 3), np.uint8)).shape == (0, 6)


@pytest.mark.parametrize("size", [(40, 300), (300, 40), (64, 64), (33, 71), (1, 1)])
def test_any_shape_of_picture(detector, size) -> None:
    boxes = detector(written(*size, 0.4) if min(size) > 20 else np.zeros((*size, 3), np.uint8))
    assert (boxes[:, :4] >= 0).all() and (boxes[:, :4] <= 1).all()


def test_small_pictures_are_enlarged(detector) -> None:
    [box] = detector(written(64, 64, 0.15, "Hi all"))
    assert box[0] < 0.2 and 0.3 < box[1] < box[3] < 0.65


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_islands_are_found_again(data) -> None:
    """Rectangles of one probability, apart from each other; the box grows by area / perimeter."""
    height, width = 96, 160
    probabilities = np.zeros((height, width), np.float32)
    expected = []
    for row in range(2):
        left = data.draw(st.integers(12, 40))
        wide, high = data.draw(st.integers(20, 80)), data.draw(st.integers(6, 16))
        top = 12 + 44 * row
        probabilities[top : top + high, left : left + wide] = data.draw(st.sampled_from([0.5, 0.9]))
        score = float(probabilities[top, left])
        if score < 0.6:
            continue
        grow = 1.6 * wide * high / (2 * (wide + high))
        expected.append((left - grow, top - grow, left + wide + grow, top + high + grow))
    found = find_boxes(cv2, probabilities)
    assert len(found) == len(expected)
    scale = (width, height, width, height)
    pixels = np.array(sorted(found[:, :4].tolist(), key=lambda box: box[1])).reshape(-1, 4) * scale
    np.testing.assert_allclose(pixels, np.array(expected).reshape(-1, 4), atol=2.5)
    assert (found[:, 4] > 0.6).all()
    assert (np.diff(found[:, 4]) <= 0).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 40))
def test_tilt_is_the_angle_of_the_line(angle: float) -> None:
    probabilities = np.zeros((160, 160), np.float32)
    rectangle = cv2.boxPoints(((80, 80), (120, 12), angle))
    cv2.fillPoly(probabilities, [np.rint(rectangle).astype(np.int32)], 1.0)
    [found] = find_boxes(cv2, probabilities)
    assert found[5] == pytest.approx(angle, abs=1.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=8, max_size=8))
def test_overlap_counts_pixels(edges: list[int]) -> None:
    boxes = np.array(edges, dtype=float).reshape(2, 2, 2)
    boxes = np.sort(boxes, axis=1).reshape(2, 4)
    y, x = np.mgrid[:20, :20] + 0.5
    one, other = (
        (x > left) & (x < right) & (y > top) & (y < bottom) for left, top, right, bottom in boxes
    )
    union = (one | other).sum()
    expected = (one & other).sum() / union if union else 0
    assert overlap(boxes[0], boxes[1]) == pytest.approx(expected)
