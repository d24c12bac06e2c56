"""Good and bad minima: how they are made, and how far they reach.

Huang et al. (2019), arXiv:1906.03291.
"""

from lla.minima.ellipsoids import Calibration, calibration
from lla.minima.poison import wrong_answer_loss
from lla.minima.radial import radial_index, ray_directions
from lla.minima.result import RadialIndex
from lla.minima.trainer import Minimum, Stage, train

__all__ = [
    "Calibration",
    "Minimum",
    "RadialIndex",
    "Stage",
    "calibration",
    "radial_index",
    "ray_directions",
    "train",
    "wrong_answer_loss",
]
