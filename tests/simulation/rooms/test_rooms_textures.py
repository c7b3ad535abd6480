from __future__ import annotations

import numpy as np
import pytest

from openwfm.simulation.rooms.layout import draw_room
from openwfm.simulation.rooms.noise import cells, metres, noise, resize
from openwfm.simulation.rooms.paint import GRAINS, IMAGES, ground_shade, paint
from openwfm.simulation.rooms.patterns import PATTERNS


def test_resize_keeps_corners_and_constants() -> None:
    image = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    large = resize(image, 30, 41)
    np.testing.assert_allclose(large[[0, 0, -1, -1], [0, -1, 0, -1]],
                               image[[0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(resize(np.full((4, 4), 0.3), 9, 17), 0.3, atol=1e-6)
    assert large.min() >= image.min() - 1e-6 and large.max() <= image.max() + 1e-6


def test_noise_has_unit_strength_and_structure_at_several_sizes() -> None:
    field = noise(np.random.default_rng(0), 128, 128, (4, 4), 5)
    assert field.mean() == pytest.approx(0, abs=1e-4) and field.std() == pytest.approx(1, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(field, axis=1)).mean(0) ** 2
    shares = [spectrum[a:b].sum() / spectrum.sum() for a, b in ((1, 8), (8, 65))]
    assert min(shares) > 0.05


def test_bricks_have_their_size_in_metres() -> None:
    x, y = metres(4.0, 2.0, (200, 400))
    assert y[0, 0] > y[-1, 0] and x[0, 0] == pytest.approx(0.005)
    row, column, edge = cells(x, y, (0.4, 0.2), 0.5)
    assert len(np.unique(row)) == 10
    for course in (0, 1):
        _, widths = np.unique(column[row == course], return_counts=True)
        assert widths.max() == 40 * 20  # 0.4 m across and 0.2 m up, at 0.01 m a pixel
    assert edge.max() <= 0.1 + 1e-6 and edge.min() >= 0


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_no_two_places_of_a_surface_look_alike(name: str) -> None:
    """What a matcher of features needs: a patch resembles itself far more than any other patch."""
    draw = PATTERNS[name]
    picture = draw(np.random.default_rng(3), 5.0, 2.5, (96, 192), (0.7, 0.6, 0.5)).mean(-1)
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.02
    patches = np.lib.stride_tricks.sliding_window_view(picture, (24, 24))[::4, ::4]
    flat = patches.reshape(-1, 576)
    flat = flat - flat.mean(1, keepdims=True)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    rows, columns = patches.shape[:2]
    middle = (rows // 2) * columns + columns // 2
    alike = (flat @ flat[middle]).reshape(rows, columns)
    far = (
        np.hypot(
            *np.ogrid[-(rows // 2) : rows - rows // 2, -(columns // 2) : columns - columns // 2]
        )
        > 3
    )
    assert alike[far].max() < 0.97


def test_every_picture_and_grain_is_an_image() -> None:
    rng = np.random.default_rng(0)
    for draw in {**IMAGES, **GRAINS}.values():
        image = draw(rng, 64)
        assert image.shape == (64, 64, 3)
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1


def test_the_ground_is_darker_under_furniture() -> None:
    room = draw_room(np.random.default_rng(2), "dining room")
    table = room.things[room.centre]
    shade = ground_shade(room)
    side = len(shade)
    x, y, _ = table.parts[0].position
    row = int((0.5 - y / room.size[1]) * side)
    column = int((0.5 + x / room.size[0]) * side)
    assert shade[row, column] < 0.85 and shade.max() > 0.95


def test_painting_is_a_function_of_its_generator() -> None:
    room = draw_room(np.random.default_rng(1), "courtyard")
    first, second = (paint(room, np.random.default_rng(4)) for _ in range(2))
    assert set(first) == set(second) and "sky" in first
    for slot, image in first.items():
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, second[slot])
