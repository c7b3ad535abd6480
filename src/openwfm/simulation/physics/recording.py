"""What happened in a scene: the exact state at every frame, and quantities that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR, FIXTURE = -1, -2


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """``t`` frames of ``n`` bodies, in the order of ``Scene.names``; axes of the world.

    ``positions`` ``t n 3`` of the centres of mass in metres, ``rotations`` ``t n 4`` as w x y z,
    ``velocities`` and ``spins`` ``t n 3`` in m/s and rad/s, ``masses`` ``n``, ``inertias`` ``n 3``
    about the body's own axes. ``contacts`` int32 ``k 3``: (frame, body, other) touched between
    this frame and the next; ``other`` is a smaller index, FLOOR or FIXTURE. ``joints`` ``t q`` is
    the simulator's own position vector.
    """

    positions: np.ndarray
    rotations: np.ndarray
    velocities: np.ndarray
    spins: np.ndarray
    masses: np.ndarray
    inertias: np.ndarray
    contacts: np.ndarray
    joints: np.ndarray
    gravity: float

    @property
    def num_frames(self) -> int:
        return len(self.positions)

    def kinetic(self) -> np.ndarray:
        """Joules ``t n``, of translation and rotation."""
        moving = 0.5 * self.masses * np.square(self.velocities).sum(-1)
        own = turn_vectors(conjugate(self.rotations), self.spins)
        return np.asarray(moving + 0.5 * (self.inertias * np.square(own)).sum(-1))

    def potential(self) -> np.ndarray:
        """Joules ``t n`` of weight above the floor."""
        return np.asarray(self.masses * self.gravity * self.positions[..., 2])

    def energy(self) -> np.ndarray:
        """Mechanical energy ``t`` of everything together. What springs of a contact hold during
        an impact is not in it: it dips there and comes back."""
        return np.asarray((self.kinetic() + self.potential()).sum(-1))

    def axes(self, body: int, axis: int = 2) -> np.ndarray:
        """The body's own axis in the world, ``t 3``."""
        unit = np.zeros((self.num_frames, 3))
        unit[:, axis] = 1
        return turn_vectors(self.rotations[:, body], unit)

    def first_contact(self, body: int, other: int) -> int | None:
        """The first frame in which the two touch."""
        pair = (max(body, other), min(body, other))
        frames = self.contacts[(self.contacts[:, 1:] == pair).all(1), 0]
        return int(frames.min()) if len(frames) else None


def conjugate(rotations: np.ndarray) -> np.ndarray:
    return np.asarray(rotations * (1, -1, -1, -1))


def turn_vectors(rotations: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Each vector ``… 3`` turned by its quaternion ``… 4``."""
    w, u = rotations[..., :1], rotations[..., 1:]
    return np.asarray(vectors + 2 * np.cross(u, np.cross(u, vectors) + w * vectors))
