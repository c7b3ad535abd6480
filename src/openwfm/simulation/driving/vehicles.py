"""Kinds of vehicles: how large they are and what they look like, as a few quads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openwfm.simulation.driving.quads import Quads, box, merged, prism

# Columns of the paint texture: what the vehicle's colour is multiplied with.
PAINT, GLASS, TYRE, TRIM = (0.125, 0.375, 0.625, 0.875)
PALETTE = ((1.0, 1.0, 1.0), (0.13, 0.16, 0.20), (0.07, 0.07, 0.08), (0.42, 0.42, 0.44))
PROUD = 0.03  # metres by which wheels and lamps stand out of the body


@dataclass(frozen=True, kw_only=True)
class Kind:
    """``length``, ``width`` and ``height`` in metres; ``cabin`` are the ends of the cabin's foot
    and of its roof, as shares of the length from the rear; ``waist`` and ``floor`` are heights."""

    noun: str
    length: float
    width: float
    height: float
    waist: float
    floor: float
    cabin: tuple[float, float, float, float]
    wheel: float
    axles: tuple[float, ...]
    turns: bool = True
    colours: tuple[str, ...] = ("white", "silver", "black", "red", "blue", "green", "orange")

    @property
    def size(self) -> tuple[float, float, float]:
        return self.length, self.width, self.height


KINDS = {
    "car": Kind(
        noun="car", length=4.4, width=1.8, height=1.45, waist=0.92, floor=0.28,
        cabin=(0.08, 0.72, 0.20, 0.55), wheel=0.33, axles=(0.2, 0.8),
    ),
    "van": Kind(
        noun="van", length=5.2, width=2.0, height=2.1, waist=1.15, floor=0.32,
        cabin=(0.0, 0.86, 0.02, 0.74), wheel=0.36, axles=(0.19, 0.81),
        colours=("white", "silver", "blue", "red", "yellow"),
    ),
    "truck": Kind(
        noun="truck", length=7.8, width=2.35, height=3.1, waist=1.5, floor=0.5,
        cabin=(0.76, 0.99, 0.78, 0.97), wheel=0.46, axles=(0.14, 0.26, 0.87), turns=False,
        colours=("white", "blue", "orange", "green", "red"),
    ),
    "bus": Kind(
        noun="bus", length=10.5, width=2.45, height=3.0, waist=1.35, floor=0.35,
        cabin=(0.0, 1.0, 0.005, 0.99), wheel=0.46, axles=(0.2, 0.76), turns=False,
        colours=("red", "yellow", "blue", "green"),
    ),
}  # fmt: skip

COLOURS: dict[str, tuple[float, float, float]] = {
    "white": (0.93, 0.93, 0.92),
    "silver": (0.62, 0.64, 0.67),
    "black": (0.12, 0.12, 0.13),
    "red": (0.78, 0.10, 0.10),
    "blue": (0.12, 0.26, 0.66),
    "green": (0.10, 0.42, 0.24),
    "orange": (0.92, 0.45, 0.08),
    "yellow": (0.93, 0.76, 0.12),
}


def body(kind: Kind) -> Quads:
    """Centred on the vehicle's box, x forward; texture columns as PALETTE."""
    length, width, height = kind.size
    x0, x1, half = -length / 2 + PROUD, length / 2 - PROUD, width / 2 - PROUD
    base = -height / 2

    def along(share: float) -> float:
        return min(max((share - 0.5) * length, x0), x1)

    lower = box((x0, -half, base + kind.floor), (x1, half, base + kind.waist))
    foot0, foot1, roof0, roof1 = (along(share) for share in kind.cabin)
    foot, roof = base + kind.waist, base + height
    profile = np.array([[foot0, foot], [foot1, foot], [roof1, roof], [roof0, roof]])
    cabin = prism(profile, half - 0.06)
    lid = box((roof0, -half + 0.03, roof - 0.09), (roof1, half - 0.03, roof))
    parts = [lower.column(PAINT), cabin.column(GLASS), lid.column(PAINT)]
    if kind.noun == "truck":
        cargo = box((x0, -half, base + 0.75), (along(0.74), half, base + height))
        parts.append(cargo.column(PAINT))
    if kind.noun == "bus":
        band = box((x0, -half, base + 2.35), (x1, half, base + height))
        parts.append(band.column(PAINT))
    if kind.noun == "van":
        cargo = box((x0, -half, base + 1.0), (along(0.55), half, base + height))
        parts.append(cargo.column(PAINT))
    for share in kind.axles:
        parts.append(_axle(along(share), base + kind.wheel, kind.wheel, width / 2).column(TYRE))
    bumper = box((-length / 2, -half + 0.1, base + kind.floor), (x0, half - 0.1, base + 0.5))
    parts.append(bumper.column(TRIM))
    return merged(*parts)


def _axle(x: float, z: float, radius: float, half: float) -> Quads:
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    rim = np.stack([x + radius * np.cos(angles), z + radius * np.sin(angles)], axis=-1)
    return prism(rim, half)


def lamps(kind: Kind, front: bool) -> Quads:
    """Two head lamps or two tail lamps."""
    length, width, height = kind.size
    inner, outer = width / 2 - 0.48, width / 2 - 0.08
    low = -height / 2 + (0.62 if front else 0.66) * (1 if kind.height < 2.5 else 1.3)
    high = low + 0.2
    x0, x1 = (length / 2 - PROUD, length / 2) if front else (-length / 2, -length / 2 + PROUD)
    pair = [
        box((x0, low_y, low), (x1, high_y, high))
        for low_y, high_y in ((inner, outer), (-outer, -inner))
    ]
    return merged(*pair)
