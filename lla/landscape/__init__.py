"""Loss landscapes: directions, their normalization, planes, and what planes tell."""

from lla.landscape.axes import (
    AdamAxes,
    HessianAxes,
    Normalization,
    RandomAxes,
    plane_directions,
)
from lla.landscape.directions import (
    adam_directions,
    hessian_directions,
    orthogonalized,
    random_directions,
)
from lla.landscape.explosion import Asymmetry, Explosion, asymmetry, explosion
from lla.landscape.interpolation import interpolate
from lla.landscape.loss_plane import loss_plane, loss_planes
from lla.landscape.normalization import normalize
from lla.landscape.output import layer_changes, normalize_output, output_change
from lla.landscape.path import Path, pca_path
from lla.landscape.plane import Plane, grid, join, nested
from lla.landscape.scalars import accuracy, negative_ratio, top_eigenvalue

__all__ = [
    "AdamAxes",
    "Asymmetry",
    "Explosion",
    "HessianAxes",
    "Normalization",
    "Path",
    "Plane",
    "RandomAxes",
    "accuracy",
    "adam_directions",
    "asymmetry",
    "explosion",
    "grid",
    "hessian_directions",
    "interpolate",
    "join",
    "layer_changes",
    "loss_plane",
    "loss_planes",
    "negative_ratio",
    "nested",
    "normalize",
    "normalize_output",
    "orthogonalized",
    "output_change",
    "pca_path",
    "plane_directions",
    "random_directions",
    "top_eigenvalue",
]
