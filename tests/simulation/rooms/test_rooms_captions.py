from __future__ import annotations

import numpy as np
import pytest

from openwfm.simulation.rooms.captions import STILL, counted, describe, movement, plural
from openwfm.simulation.rooms.config import KINDS, MOTIONS

DIRECTIONS = {
    "orbit": ("left", "right"), "dolly": ("forward", "back"), "truck": ("left", "right"),
    "pan": ("left", "right"), "tilt": ("up", "down"), "walk": ("left", "right", "forward"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, many",
    [
        ("red sofa", "red sofas"), ("wooden bookshelf", "wooden bookshelves"),
        ("green bench", "green benches"), ("flowering bush", "flowering bushes"),
        ("flower box", "flower boxes"), ("cypress", "cypresses"),
        ("pile of wooden crates", "piles of wooden crates"),
        ("garden table under a red parasol", "garden tables under a red parasol"),
    ],
)  # fmt: skip
def test_plurals(name: str, many: str) -> None:
    assert plural(name) == many


def test_equal_things_are_counted_in_the_order_of_the_first() -> None:
    assert counted(["red sofa", "door", "door", "orange stool"]) == [
        "a red sofa", "two doors", "an orange stool",
    ]  # fmt: skip
    assert counted(["tree"] * 9) == ["many trees"]


def test_opposite_motions_are_never_worded_alike() -> None:
    for motion in MOTIONS:
        spoken = {
            direction: {
                movement(motion, direction, None, np.random.default_rng(seed)) for seed in range(30)
            }
            for direction in DIRECTIONS[motion]
        }
        for direction, phrases in spoken.items():
            assert len(phrases) > 1
            for other, others in spoken.items():
                assert other == direction or not phrases & others


def test_every_caption_names_the_place_the_things_and_the_stillness() -> None:
    words = {word.lower().rstrip(".") for word in STILL}
    texts = set()
    for seed in range(60):
        kind, motion = KINDS[seed % 6], MOTIONS[(seed // 6) % 6]
        text = describe(
            kind, ["door", "red sofa"], motion, DIRECTIONS[motion][seed % 2], None,
            np.random.default_rng(seed),
        )  # fmt: skip
        texts.add(text)
        low = text.lower()
        assert kind in low and "a door and a red sofa" in low
        assert text[0].isupper() and text.endswith(".") and "  " not in text and "{" not in text
        assert "static" in low or "motionless" in low or any(word in low for word in words)
    assert len(texts) > 50
