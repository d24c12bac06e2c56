"""Level sets of the training loss: walks on them, what falls along the way, and comparisons."""

from lla.level_sets.joint import Joint, pca, plane
from lla.level_sets.level_path import LevelPath
from lla.level_sets.regularizer import Regularizer
from lla.level_sets.regularizers import jacobian, kappa, l2, smooth_l1, trace
from lla.level_sets.walking import walk
from lla.level_sets.weighted_sum import WeightedSum, weighted_sum

__all__ = [
    "Joint",
    "LevelPath",
    "Regularizer",
    "WeightedSum",
    "jacobian",
    "kappa",
    "l2",
    "pca",
    "plane",
    "smooth_l1",
    "trace",
    "walk",
    "weighted_sum",
]
