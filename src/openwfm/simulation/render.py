"""Headless rendering: which GL to use, and pictures of a MuJoCo model."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from openwfm.extras import require

if TYPE_CHECKING:
    import mujoco

BACKENDS = ("egl", "osmesa")
SHADOW, SHADOW_HEIGHT, SHADOW_LIFT = 0.45, 3.0, 0.01
PROBE = """
import mujoco, mujoco.{backend} as gl
context = gl.GLContext(16, 16)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)
"""


@functools.cache
def choose_backend() -> str:
    """The first of EGL and OSMesa that works here, or the one that ``MUJOCO_GL`` asks for.

    Each is tried in a process of its own, because a failed GL leaves PyOpenGL unusable. Raises
    RuntimeError naming the Debian packages when none works.
    """
    require("mujoco", extra="simulation")
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if wanted and wanted not in BACKENDS:
        raise ValueError(f"MUJOCO_GL={wanted}: must be one of {', '.join(BACKENDS)} (headless)")
    for backend in [wanted] if wanted else BACKENDS:
        if _works(backend):
            return backend
    raise RuntimeError(
        f"MuJoCo finds no headless OpenGL (tried {wanted or ' and '.join(BACKENDS)}): "
        "apt-get install libegl1 libgl1-mesa-dri (for EGL) or libosmesa6 (for OSMesa)"
    )


def _works(backend: str) -> bool:
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    code = PROBE.format(backend=backend)
    tried = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    return tried.returncode == 0


class Renderer:
    """Pictures of one model, averaged from ``supersample`` times as many pixels each way.

    MuJoCo's own multisampling is ten times slower than this on a CPU rasteriser. ``model`` needs
    an offscreen buffer (``<global offwidth offheight>``) of at least that size.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        backend: str,
        width: int,
        height: int,
        supersample: int,
        max_geoms: int = 64,
    ) -> None:
        # PyOpenGL reports at INFO that its optional accelerator is absent.
        logging.getLogger("OpenGL").setLevel(logging.WARNING)
        # Rasterise in the calling thread: handing small pictures to another thread and waiting for
        # it takes a quarter of the time (measured: 4.8 against 3.5 s for 32 physics clips).
        os.environ.setdefault("LP_NUM_THREADS", "0")
        os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = backend
        self._mujoco = mj = require("mujoco", extra="simulation")
        self._model, self._supersample = model, supersample
        self._width, self._height = width, height
        large = (height * supersample, width * supersample)
        self._context = importlib.import_module(f"mujoco.{backend}").GLContext(*large[::-1])
        self._context.make_current()
        self._drawing = mj.MjrContext(model, mj.mjtFontScale.mjFONTSCALE_50.value)
        self._drawing.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR.value
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        self._scene = mj.MjvScene(model, maxgeom=max_geoms)
        self._scene.flags[mj.mjtRndFlag.mjRND_HAZE] = 0
        self._option, self._camera = mj.MjvOption(), mj.MjvCamera()
        self._large = mj.MjrRect(0, 0, *large[::-1])
        self._plain = mj.MjrRect(0, 0, width, height)
        self._pixels = np.empty((*large, 3), np.uint8)

    def close(self) -> None:
        """Free the GL objects while their own context is current: freed in another renderer's,
        they would take that one's objects of the same number with them."""
        if self._context is not None:
            self._context.make_current()
            self._drawing.free()
            self._context.free()
            self._context = None

    def upload_textures(self) -> None:
        """Show what was written into ``model.tex_data``."""
        self._context.make_current()
        for texture in range(self._model.ntex):
            self._mujoco.mjr_uploadTexture(self._model, self._drawing, texture)

    def upload_meshes(self) -> None:
        """Show what was written into ``model.mesh_vert`` and its kin."""
        self._context.make_current()
        for mesh in range(self._model.nmesh):
            self._mujoco.mjr_uploadMesh(self._model, self._drawing, mesh)

    def render(
        self, data: mujoco.MjData, fovy: float, pose: np.ndarray, casters: Sequence[int] = ()
    ) -> np.ndarray:
        """uint8 picture ``h w c`` of the state.

        ``fovy`` is the vertical angle in degrees, ``pose`` camera-to-world ``4 4`` with OpenCV
        axes (`openwfm.simulation.lens`); ``casters`` are the geoms that throw a shadow on the
        ground, which is the plane z = 0.
        """
        self._look(data, fovy, pose)
        for geom in casters:
            self._add_shadow(data, geom)
        self._mujoco.mjr_render(self._large, self._scene, self._drawing)
        self._mujoco.mjr_readPixels(self._pixels, None, self._large, self._drawing)
        return shrink(self._pixels[::-1], self._supersample)

    def render_truth(
        self, data: mujoco.MjData, fovy: float, pose: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """At pixel centres: int32 ``h w``, the id of the geom that is seen, -1 for the background;
        and float32 ``h w``, metres along the camera's z axis, the far plane for the background."""
        mj, scene = self._mujoco, self._scene
        self._look(data, fovy, pose)
        flags = (mj.mjtRndFlag.mjRND_SEGMENT, mj.mjtRndFlag.mjRND_IDCOLOR)
        pixels = np.empty((self._height, self._width, 3), np.uint8)
        depth = np.empty((self._height, self._width), np.float32)
        for flag in flags:
            scene.flags[flag] = 1
        mj.mjr_render(self._plain, scene, self._drawing)
        mj.mjr_readPixels(pixels, depth, self._plain, self._drawing)
        for flag in flags:
            scene.flags[flag] = 0
        shown = np.full(scene.ngeom + 1, -1, np.int32)
        for geom in scene.geoms[: scene.ngeom]:
            if geom.objtype == mj.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                shown[geom.segid + 1] = geom.objid
        geoms = shown[pixels[::-1] @ np.array([1, 256, 65536])]
        near, far = self._planes()
        # The reversed depth buffer holds 1 at the near plane and 0 at the far one. MuJoCo's sky is
        # a cube at a finite distance.
        metres = near * far / (depth[::-1] * (far - near) + near)
        return geoms, np.where(geoms < 0, np.float32(far), metres)

    def _planes(self) -> tuple[float, float]:
        """Distances of the near and far planes in metres."""
        extent, clip = self._model.stat.extent, self._model.vis.map
        return extent * clip.znear, extent * clip.zfar

    def _look(self, data: mujoco.MjData, fovy: float, pose: np.ndarray) -> None:
        """Take the state and stand at ``pose``."""
        mj, scene = self._mujoco, self._scene
        self._context.make_current()
        everything = mj.mjtCatBit.mjCAT_ALL.value
        mj.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, scene)
        near, far = self._planes()
        top = near * math.tan(math.radians(fovy) / 2)
        for eye in scene.camera:
            eye.pos, eye.forward, eye.up = pose[:3, 3], pose[:3, 2], -pose[:3, 1]
            eye.frustum_near, eye.frustum_far = near, far
            eye.frustum_top, eye.frustum_bottom = top, -top
            eye.frustum_center = eye.frustum_width = 0

    def _add_shadow(self, data: mujoco.MjData, geom: int) -> None:
        """Flatten the geom onto the table along the light; the higher it is, the fainter.

        MuJoCo's shadow maps speckle flat surfaces at this size and take half of the time.
        """
        centre, turn = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)
        strength = SHADOW * max(0.0, 1 - centre[2] / SHADOW_HEIGHT)
        if strength == 0:
            return
        light = self._model.light_dir[0]
        flatten = np.eye(3)
        flatten[:, 2] -= light / light[2]
        flatten[2, 2] = SHADOW_LIFT
        spot = flatten @ centre
        spot[2] = SHADOW_LIFT
        shadow = self._scene.geoms[self._scene.ngeom]
        # mjv_initGeom leaves the type that an earlier frame had in this slot, and the order in
        # which overlapping shadows are blended depends on it.
        shadow.objtype = self._mujoco.mjtObj.mjOBJ_UNKNOWN.value
        self._mujoco.mjv_initGeom(
            shadow,
            self._model.geom_type[geom],
            self._model.geom_size[geom],
            spot,
            (flatten @ turn).ravel(),
            np.array([0, 0, 0, strength], np.float32),
        )
        self._scene.ngeom += 1


def shrink(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Mean over blocks of ``factor`` × ``factor`` pixels, rounded: ``h w c`` of uint8."""
    if factor == 1:
        return pixels.copy()
    # Strided sums are six times faster than a reshape and a mean over two axes.
    height, width, channels = pixels.shape
    rows = np.zeros((height // factor, width, channels), np.uint16)
    total = np.full((height // factor, width // factor, channels), factor**2 // 2, np.uint16)
    for offset in range(factor):
        rows += pixels[offset::factor]
    for offset in range(factor):
        total += rows[:, offset::factor]
    return (total // factor**2).astype(np.uint8)
