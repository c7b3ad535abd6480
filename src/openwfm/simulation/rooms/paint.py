"""Every texture of a room, with the shade of corners and furniture painted into its surfaces."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.bodies import half_extents
from openwfm.simulation.rooms import patterns, pictures
from openwfm.simulation.rooms.layout import Room, Surface
from openwfm.simulation.rooms.noise import metres, resize
from openwfm.simulation.rooms.parts import Part

WALL, GROUND, CEILING, PICTURE, SOLID, SKY = (256, 512), (512, 512), (128, 128), 128, 64, 64
SHADE_SIDE = 64
GRAINS = {
    "wood": patterns.wood_grain,
    "cloth": patterns.cloth,
    "leaves": patterns.leaves,
    "bark": patterns.bark,
    "rock": patterns.rock,
    "smooth": patterns.smooth,
}
IMAGES = {
    "rug": pictures.rug,
    "door": pictures.door,
    "view": pictures.view,
    **{f"painting{index}": pictures.painting for index in range(6)},
    **{f"books{index}": pictures.books for index in range(4)},
}
SURFACES = {
    "floor": GROUND,
    "ceiling": CEILING,
    **{f"wall{index}": WALL for index in range(4)},
}


def paint(room: Room, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """uint8 ``h w 3`` for every slot of the model; slots that the room does not use are absent.

    The texture of a solid is that of one face of a cube, the sky's are six faces in a column.
    """
    parts = {part.texture: part for thing in room.things for part in thing.parts}
    ground = resize(ground_shade(room), *GROUND)
    painted = {}
    for surface in room.surfaces:
        shade = ground if surface.texture == "floor" else corner_shade(surface, room.indoors)
        painted[surface.texture] = _surface(surface, rng) * shade[..., None]
    for slot, image in IMAGES.items():
        if slot in parts:
            painted[slot] = image(rng, PICTURE)
    if "rug" in parts:
        painted["rug"] *= _lying(parts["rug"], ground, room)[..., None]
    for slot, grain in GRAINS.items():
        if slot in parts:
            painted[slot] = grain(rng, SOLID)
    if not room.indoors:
        painted["sky"] = pictures.sky(rng, SKY)
    return {slot: np.rint(255 * image).astype(np.uint8) for slot, image in painted.items()}


def _surface(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    draw = patterns.PATTERNS[surface.pattern]
    shape = SURFACES[surface.texture]
    return draw(rng, surface.width, surface.height, shape, surface.colour)


def corner_shade(surface: Surface, indoors: bool) -> np.ndarray:
    """Float ``h w``: darker towards edges where two surfaces meet."""
    x, y = metres(surface.width, surface.height, SURFACES[surface.texture])
    edges = [y, x, surface.width - x]
    if indoors:
        edges.append(surface.height - y)
    shade = np.ones_like(x)
    for distance in edges:
        shade = shade * (1 - 0.28 * np.exp(-distance / 0.22))
    return shade


def ground_shade(room: Room) -> np.ndarray:
    """Float ``side side``, row 0 at +y: soft shadows of everything that stands on the ground.

    Each part's outline is moved along the light by its height, and is the softer and fainter the
    higher it hangs.
    """
    width, depth, _ = room.size
    x, y = metres(width, depth, (SHADE_SIDE, SHADE_SIDE))
    x, y = x - width / 2, y - depth / 2
    walls = np.minimum(width / 2 - np.abs(x), depth / 2 - np.abs(y))
    shade = 1 - 0.3 * np.exp(-walls / 0.25)
    slant = np.asarray(room.light[:2]) * (0.35 if room.indoors else 0.9)
    for thing in room.things:
        for part in thing.parts:
            if part.texture == "rug" or part.texture in SURFACES:
                continue
            half = np.abs(part.rotation) @ half_extents(part.shape, part.size)
            middle = np.asarray(part.position)
            bottom = max(0.0, float(middle[2] - half[2]))
            strength = 0.5 * (1 - bottom / (1.2 if room.indoors else 5.0))
            if strength > 0:
                at = middle[:2] + slant * middle[2]
                outside = _outside(part, half, x - at[0], y - at[1])
                soft = 0.07 + 0.2 * bottom
                shade = np.minimum(shade, 1 - strength * np.clip(1 - outside / soft, 0, 1))
    return np.asarray(shade, np.float32)


def _outside(part: Part, half: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """About how many metres points beside a part's middle lie outside its outline from above."""
    if part.shape != "box":
        ring: np.ndarray = np.hypot(x / half[0], y / half[1]) - 1
        return ring * float(half[:2].min())
    right, deep = half[:2]
    if part.rotation[2, 2] > 0.99:
        (cos, sin), (right, deep) = part.rotation[:2, 0], part.size[:2]
        x, y = cos * x + sin * y, cos * y - sin * x
    over: np.ndarray = np.hypot(np.maximum(np.abs(x) - right, 0), np.maximum(np.abs(y) - deep, 0))
    return over


def _lying(part: Part, ground: np.ndarray, room: Room) -> np.ndarray:
    """Shade ``PICTURE PICTURE`` of the ground under a part that lies flat."""
    x, y = metres(2 * part.size[0], 2 * part.size[1], (PICTURE, PICTURE))
    local = np.stack([x - part.size[0], y - part.size[1]], axis=-1)
    spots = local @ part.rotation[:2, :2].T + part.position[:2]
    column = (spots[..., 0] / room.size[0] + 0.5) * GROUND[1]
    row = (0.5 - spots[..., 1] / room.size[1]) * GROUND[0]
    return ground[
        np.clip(row.astype(int), 0, GROUND[0] - 1), np.clip(column.astype(int), 0, GROUND[1] - 1)
    ]
