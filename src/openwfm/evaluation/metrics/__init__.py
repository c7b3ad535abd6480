"""Pure functions from videos to numbers, and from numbers to intervals."""

from openwfm.evaluation.metrics.bootstrap import Interval, bootstrap_interval
from openwfm.evaluation.metrics.frechet import Moments, frechet_distance
from openwfm.evaluation.metrics.pixels import (
    frame_psnr,
    frame_ssim,
    masked_psnr,
    moving_pixels,
    psnr,
    ssim,
)

__all__ = [
    "Interval",
    "Moments",
    "bootstrap_interval",
    "frechet_distance",
    "frame_psnr",
    "frame_ssim",
    "masked_psnr",
    "moving_pixels",
    "psnr",
    "ssim",
]
