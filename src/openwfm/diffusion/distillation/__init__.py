"""A teacher that needs many steps, distilled into a student of the same network that needs few."""

from openwfm.diffusion.distillation.config import ConsistencyConfig

__all__ = ["ConsistencyConfig"]
