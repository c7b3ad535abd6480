"""Lightning callbacks: everything that happens around a training loop."""

from openwfm.callbacks.checkpoint import Checkpoint
from openwfm.callbacks.ema import EMA, averaged_module
from openwfm.callbacks.export import ExportWeights
from openwfm.callbacks.obedience import Obedience
from openwfm.callbacks.progress import Progress
from openwfm.callbacks.provenance import Provenance
from openwfm.callbacks.samples import SampleVideos
from openwfm.callbacks.teacher_forced import TeacherForced
from openwfm.callbacks.throughput import Throughput

__all__ = [
    "EMA",
    "Checkpoint",
    "ExportWeights",
    "Obedience",
    "Progress",
    "Provenance",
    "SampleVideos",
    "TeacherForced",
    "Throughput",
    "averaged_module",
]
