"""Stage: how the camera moves and how much moves by itself, from optical flow. It decides nothing.

Flow cannot tell a zoom from a dolly but by parallax, nor a pan from a truck: tags name what the
picture shows (``zoom_in``, ``pan_left``), and the score ``parallax`` says which it may have been.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, UInt8

from openwfm.curation.camera_fit import CameraFit, fit_camera
from openwfm.curation.camera_tags import CameraSeries
from openwfm.curation.look import Look
from openwfm.curation.record import Clip, Record
from openwfm.curation.fields import Field

TOLERANCE, RELATIVE = 0.5, 0.15


def series_of(fields: list[Field]) -> tuple[CameraSeries, list[CameraFit | None]]:
    rates, inliers, fits = [], [], []
    for field in fields:
        tolerance = TOLERANCE * field.pixel + RELATIVE * np.abs(field.moved)
        fit = fit_camera(field.points, field.moved, tolerance)
        fits.append(fit)
        if fit is None:
            rates.append((0.0,) * 4)
            inliers.append(0.0)
            continue
        rates.append((fit.shift.real / field.gap, fit.shift.imag / field.gap,
                      np.log(fit.scale) / field.gap, np.degrees(fit.angle) / field.gap))
        inliers.append(fit.inliers)
    return CameraSeries(rates=np.array(rates).reshape(-1, 4), inliers=np.array(inliers)), fits
