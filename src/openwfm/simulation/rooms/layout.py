"""Where everything stands: a room or a court is drawn from the setting of its kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.bodies import Vector
from openwfm.simulation.rooms import fittings
from openwfm.simulation.rooms import furniture as f
from openwfm.simulation.rooms import outdoors as o
from openwfm.simulation.rooms.parts import Part, Solids, Thing, box, panel, place

MAX_PARTS = 250
Piece = Callable[[np.random.Generator], Thing | list[Thing]]
Floor = tuple[str, Vector]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a kind of room may have: pieces along its walls, in its corners, hung up, in the middle
    and (``loose``) anywhere; patterns and colours of its floor and its walls."""

    side: tuple[float, float]
    height: tuple[float, float]
    along: tuple[Piece, ...]
    corners: tuple[Piece, ...]
    middle: tuple[Piece, ...]
    loose: tuple[Piece, ...] = ()
    floors: tuple[Floor, ...]
    indoors: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """A floor, wall or ceiling to be painted into slot ``texture``: pattern, colour, metres."""

    texture: str
    pattern: str
    colour: Vector
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Room:
    """``size`` is its inside, x y z in metres, its floor's centre the origin; ``centre`` the index
    of the thing in its middle. ``light`` is the direction in which the sun or lamps shine."""

    kind: str
    size: Vector
    indoors: bool
    things: tuple[Thing, ...]
    surfaces: tuple[Surface, ...]
    centre: int
    light: Vector


INDOOR_FLOORS: tuple[Floor, ...] = (
    ("planks", (0.72, 0.50, 0.31)),
    ("planks", (0.50, 0.33, 0.21)),
    ("tiles", (0.80, 0.74, 0.66)),
    ("carpet", (0.55, 0.50, 0.46)),
    ("carpet", (0.35, 0.42, 0.52)),
)
WALL_COLOURS: tuple[Vector, ...] = (
    (0.88, 0.83, 0.72), (0.72, 0.80, 0.76), (0.80, 0.66, 0.58), (0.66, 0.72, 0.82),
    (0.86, 0.76, 0.50), (0.62, 0.70, 0.55), (0.85, 0.84, 0.82),
)  # fmt: skip
INDOOR_WALLS = ("wallpaper", "wallpaper", "plaster", "panelling", "brick")
PAVINGS: tuple[Floor, ...] = (("paving", (0.70, 0.66, 0.60)), ("stone", (0.66, 0.62, 0.58)))
LAWNS: tuple[Floor, ...] = (("grass", (0.36, 0.50, 0.20)), ("grass", (0.42, 0.52, 0.22)))
EDGES: dict[str, tuple[str, tuple[Vector, ...], tuple[float, float]]] = {
    "brick wall": ("brick", ((0.66, 0.36, 0.27), (0.72, 0.52, 0.38)), (2.0, 2.6)),
    "stone wall": ("stone", ((0.66, 0.64, 0.60), (0.74, 0.66, 0.54)), (1.9, 2.5)),
    "wooden fence": ("panelling", ((0.62, 0.45, 0.30), (0.45, 0.50, 0.48)), (1.8, 2.1)),
    "hedge": ("grass", ((0.22, 0.40, 0.16),), (1.8, 2.4)),
    "building": ("facade", ((0.80, 0.70, 0.56), (0.70, 0.44, 0.36), (0.86, 0.83, 0.78)), (5, 8)),
}
SETTINGS: dict[str, Setting] = {
    "living room": Setting(
        side=(4.8, 6.6), height=(2.5, 2.9),
        along=(f.sofa, f.sofa, f.bookshelf, f.cabinet, f.armchair),
        corners=(f.plant, f.lamp, f.armchair), middle=(f.coffee_table,),
        loose=(f.armchair, f.stool), floors=INDOOR_FLOORS,
    ),
    "dining room": Setting(
        side=(4.6, 6.2), height=(2.5, 2.9), along=(f.cabinet, f.cabinet, f.chair, f.bookshelf),
        corners=(f.plant, f.lamp), middle=(f.dining_set,), floors=INDOOR_FLOORS,
    ),
    "study": Setting(
        side=(4.4, 5.8), height=(2.5, 3.0),
        along=(f.bookshelf, f.bookshelf, f.bookshelf, f.workplace, f.cabinet),
        corners=(f.plant, f.lamp, f.armchair), middle=(f.workplace, f.coffee_table),
        loose=(f.stool,), floors=INDOOR_FLOORS,
    ),
    "bedroom": Setting(
        side=(4.6, 6.0), height=(2.5, 2.8), along=(f.wardrobe, f.bookshelf, f.cabinet, f.armchair),
        corners=(f.plant, f.lamp), middle=(f.bed,), loose=(f.stool,), floors=INDOOR_FLOORS,
    ),
    "courtyard": Setting(
        side=(7.5, 11.0), height=(8.0, 8.0), along=(o.bench, o.planter, o.barrel, o.crates),
        corners=(o.cypress, o.lamp_post, o.tree), middle=(o.fountain, o.statue, o.well),
        loose=(o.bench, o.parasol_table, o.barrel), floors=PAVINGS, indoors=False,
    ),
    "garden": Setting(
        side=(8.0, 12.0), height=(8.0, 8.0), along=(o.bush, o.bench, o.planter, o.bush),
        corners=(o.tree, o.cypress), middle=(o.parasol_table, o.tree, o.well, o.fountain),
        loose=(o.tree, o.bush, o.bench, o.cypress, o.statue), floors=LAWNS, indoors=False,
    ),
}  # fmt: skip


class Builder:
    """Puts pieces where nothing stands yet."""

    def __init__(self, rng: np.random.Generator, setting: Setting) -> None:
        self.rng, self.setting = rng, setting
        self.size = (
            float(rng.uniform(*setting.side)),
            float(rng.uniform(*setting.side)),
            float(rng.uniform(*setting.height)),
        )
        self.things: list[Thing] = []
        self.surfaces: list[Surface] = []
        self._taken: list[tuple[np.ndarray, np.ndarray]] = []
        self.walls: list[list[tuple[float, float, float]]] = [[], [], [], []]

    def draw(self, pieces: tuple[Piece, ...]) -> list[Thing]:
        drawn = pieces[self.rng.integers(len(pieces))](self.rng)
        return drawn if isinstance(drawn, list) else [drawn]

    def put(self, group: list[Thing], x: float, y: float, yaw: float, gap: float = 0.05) -> bool:
        """Place a group unless it would touch what is there, a wall, or be one part too many."""
        placed = [place(thing, x, y, yaw) for thing in group]
        low, high = _footprint(placed)
        inside = np.asarray(self.size[:2]) / 2
        outside = (low < -inside).any() or (high > inside).any()
        if outside or not self.affords(placed):
            return False
        for other_low, other_high in self._taken:
            if (low < other_high + gap).all() and (high > other_low - gap).all():
                return False
        self._taken.append((low, high))
        self.things += placed
        return True

    def affords(self, group: list[Thing]) -> bool:
        """Whether the model has parts left for a group."""
        return sum(len(thing.parts) for thing in [*self.things, *group]) <= MAX_PARTS

    def line(self, wall: int) -> None:
        """Pieces side by side along a wall, with their backs to it."""
        length = self.size[wall % 2]
        at, end = -length / 2 + self.rng.uniform(0.5, 1.0), length / 2 - 0.5
        while True:
            group = self.draw(self.setting.along)
            low, high = _footprint(group)
            right = at + float(high[0] - low[0])
            if right > end:
                return
            x, y, yaw = self.against(wall, (at + right) / 2, float(-low[1]) + 0.05)
            if self.put(group, x, y, yaw):
                top = float(Solids.of(group).bounds()[1][:, 2].max())
                self.walls[wall].append((at, right, top))
            at = right + float(self.rng.uniform(0.1, 0.9))

    def against(self, wall: int, along: float, off: float) -> tuple[float, float, float]:
        """x, y and yaw of a piece ``off`` metres from a wall; wall 0 is at -y, the others follow
        anticlockwise. ``along`` counts from the wall's middle, to the left of who faces it."""
        yaw = wall * math.pi / 2
        reach = self.size[1 - wall % 2] / 2 - off
        x = along * math.cos(yaw) + reach * math.sin(yaw)
        y = along * math.sin(yaw) - reach * math.cos(yaw)
        return x, y, yaw

    def hang(self, wall: int) -> None:
        """Windows and paintings side by side, above low pieces only."""
        length = self.size[wall % 2]
        at, end = -length / 2 + self.rng.uniform(0.4, 0.8), length / 2 - 0.35
        while True:
            thing = (fittings.painting, fittings.window)[self.rng.random() < 0.35](self.rng)
            low, high = _footprint([thing])
            right = at + float(high[0] - low[0])
            if right > end:
                return
            blocked = [w for w in self.walls[wall] if w[0] < right and w[1] > at and w[2] > 0.95]
            if not blocked and self.affords([thing]):
                x, y, yaw = self.against(wall, (at + right) / 2, 0.021)
                self.things.append(place(thing, x, y, yaw, z=1.68))
            at = right + float(self.rng.uniform(0.2, 0.8))


def _footprint(things: list[Thing]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x and y."""
    low, high = Solids.of(things).bounds()
    return low[:, :2].min(0), high[:, :2].max(0)


def draw_room(rng: np.random.Generator, kind: str) -> Room:
    """A room or a court of a kind; its surfaces come first among its things."""
    setting = SETTINGS[kind]
    builder = Builder(rng, setting)
    _enclose(builder)
    yaw = math.pi / 2 * int(rng.integers(4)) + float(rng.uniform(-0.12, 0.12))
    centre = len(builder.things)
    if setting.indoors and rng.random() < 0.75:
        builder.things.append(place(fittings.rug(rng), 0.0, 0.0, yaw))
        centre += 1
    x, y = rng.uniform(-0.3, 0.3, 2).tolist()
    while not builder.put(builder.draw(setting.middle), x, y, yaw):
        yaw = float(rng.uniform(0, 2 * math.pi))
    if setting.indoors:
        wall = int(rng.integers(4))
        along = float(rng.uniform(-0.25, 0.25)) * builder.size[wall % 2]
        if builder.put([fittings.door(rng)], *builder.against(wall, along, 0.04), gap=0.4):
            builder.walls[wall].append((along - 0.55, along + 0.55, 2.1))
    for corner in range(4):
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))[corner]
        inset = 0.5 if setting.indoors else 1.0
        x, y = (s * (length / 2 - inset) for s, length in zip(signs, builder.size, strict=False))
        if rng.random() < 0.7:
            towards = math.atan2(-y, -x) - math.pi / 2
            builder.put(builder.draw(setting.corners), x, y, towards)
    for wall in rng.permutation(4).tolist():
        builder.line(wall)
    for _ in range(4 if setting.loose else 0):
        x, y = (rng.uniform(-0.35, 0.35, 2) * builder.size[:2]).tolist()
        builder.put(builder.draw(setting.loose), x, y, float(rng.uniform(0, 2 * math.pi)), 0.5)
    if setting.indoors:
        for wall in range(4):
            builder.hang(wall)
    angle, tilt = rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 0.9)
    return Room(
        kind=kind, size=builder.size, indoors=setting.indoors, things=tuple(builder.things),
        surfaces=tuple(builder.surfaces), centre=centre,
        light=(tilt * math.cos(angle), tilt * math.sin(angle), -1.0),
    )  # fmt: skip


def _enclose(builder: Builder) -> None:
    """Floor, four walls (or the edges of a court) and, indoors, a ceiling."""
    rng, setting = builder.rng, builder.setting
    width, depth, height = builder.size
    pattern, colour = setting.floors[rng.integers(len(setting.floors))]
    _flat(builder, "floor" if setting.indoors else "ground", "floor", -0.02, pattern, colour)
    if setting.indoors:
        _flat(builder, "ceiling", "ceiling", height + 0.02, "plaster", (0.93, 0.92, 0.89))
    usual = str(rng.choice(INDOOR_WALLS))
    paint = WALL_COLOURS[rng.integers(len(WALL_COLOURS))]
    accent, other = int(rng.integers(6)), str(rng.choice(INDOOR_WALLS))
    for wall in range(4):
        x, y, yaw = builder.against(wall, 0.0, -0.02)
        if setting.indoors:
            name, top, pattern, colour = "wall", height, usual, paint
            if wall == accent:
                pattern, colour = other, WALL_COLOURS[rng.integers(len(WALL_COLOURS))]
        else:
            name = str(rng.choice(list(EDGES)))
            pattern, colours, heights = EDGES[name]
            colour, top = colours[rng.integers(len(colours))], float(rng.uniform(*heights))
        length, slot = (width, depth)[wall % 2] + 0.08, f"wall{wall}"
        part = panel((0, 0, top / 2), length, top, slot)
        thing = Thing(name=name, parts=(part,), surface=setting.indoors)
        builder.things.append(place(thing, x, y, yaw))
        builder.surfaces.append(
            Surface(texture=slot, pattern=pattern, colour=colour, width=length, height=top)
        )


def _flat(builder: Builder, name: str, slot: str, z: float, pattern: str, colour: Vector) -> None:
    """It reaches under the walls, so that no light comes through the joint."""
    width, depth, _ = builder.size
    part: Part = box((0, 0, z), (width / 2 + 0.02, depth / 2 + 0.02, 0.02), slot)
    builder.things.append(Thing(name=name, parts=(part,), surface=True))
    builder.surfaces.append(
        Surface(texture=slot, pattern=pattern, colour=colour, width=width, height=depth)
    )
