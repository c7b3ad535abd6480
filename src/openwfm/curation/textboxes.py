"""Where text stands in a picture: PP-OCRv4's mobile detector, from ``rapidocr-onnxruntime``.

The network gives every pixel a probability of lying in the (shrunken) middle of a line of text
(differentiable binarisation, arXiv 1911.08947); its islands, grown again, are the boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from openwfm.extras import package_folder, require

LONGEST, STEP = 640, 32  # pixels; the network halves five times
ENLARGED, LEAST = 2, 320  # smaller pictures are enlarged: twice, and at least to this
PIXEL, BOX = 0.3, 0.6  # probabilities: of an island's pixels, of its mean
GROW = 1.6  # area over perimeter times this is the way from an island's border to the text's
MIN_SIDE = 3
LONG = 4.0  # length over height from which a line has a direction


class TextDetector:
    """Upright boxes around lines of text. One thread; equal pictures give equal boxes."""

    def __init__(self) -> None:
        self.cv2: Any = require("cv2", extra="curation")
        runtime = require("onnxruntime", extra="curation")
        folder = package_folder("rapidocr_onnxruntime", extra="curation") / "models"
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session: Any = runtime.InferenceSession(
            str(folder / "ch_PP-OCRv4_det_infer.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 6"]:
        """RGB in; per line left, top, right, bottom in shares of width and height, the mean
        probability of its pixels, and its tilt in degrees (0 to 45; 0 for a short one)."""
        return find_boxes(self.cv2, self.probabilities(picture))

    def probabilities(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "y x"]:
        longest = max(picture.shape[:2])
        factor = min(max(ENLARGED * longest, LEAST), LONGEST) / longest
        height, width = (max(1, round(side * factor / STEP)) * STEP for side in picture.shape[:2])
        shrinks = factor < 1
        kind = self.cv2.INTER_AREA if shrinks else self.cv2.INTER_CUBIC
        scaled = self.cv2.resize(picture, (width, height), interpolation=kind)
        # The network was trained on BGR.
        values = scaled[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
        return self.session.run(None, {self.input: np.ascontiguousarray(values)})[0][0, 0]


def find_boxes(cv2: Any, probabilities: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "n 6"]:
    """The islands of a probability map, grown back to the text, best first."""
    height, width = probabilities.shape
    island = (probabilities > PIXEL).astype(np.uint8)
    island = cv2.dilate(island, np.ones((2, 2), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(island, connectivity=8)
    found = []
    for label in range(1, count):
        left, top, wide, high = (int(value) for value in stats[label, :4])
        if min(wide, high) < MIN_SIDE:
            continue
        inside = labels[top : top + high, left : left + wide] == label
        score = probabilities[top : top + high, left : left + wide][inside].mean()
        if score < BOX:
            continue
        grow = GROW * wide * high / (2 * (wide + high))
        edges = (
            max(0.0, (left - grow) / width),
            max(0.0, (top - grow) / height),
            min(1.0, (left + wide + grow) / width),
            min(1.0, (top + high + grow) / height),
        )
        found.append((*edges, float(score), _tilt(cv2, inside)))
    return np.array(sorted(found, key=lambda box: (-box[4], box)), dtype=np.float64).reshape(-1, 6)


def _tilt(cv2: Any, island: Bool[np.ndarray, "y x"]) -> float:
    """Degrees between the long side of the island's narrowest rectangle and the nearer axis."""
    rows, columns = np.nonzero(island)
    _, sides, angle = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    if max(sides) < LONG * max(min(sides), 1.0):
        return 0.0
    return float(min(angle % 90, 90 - angle % 90))
