"""Loss landscapes and Hessian spectra of PyTorch models."""

from lla import level_sets, minima
from lla._version import __version__
from lla.allocator import tune_allocator
from lla.errors import (
    ChecksumError,
    InputError,
    InsufficientMemoryError,
    MissingDataError,
    NonFiniteError,
    WriteError,
)
from lla.estimate import Estimate
from lla.hessian.accuracy import Target
from lla.hessian.criteria.criteria import Criteria, criteria
from lla.hessian.density import spectral_density
from lla.hessian.eigenpairs import Eigenpairs, top_eigenpairs
from lla.hessian.memory.plans import Memory
from lla.hessian.operator import HessianOperator
from lla.hessian.ratios import spectrum_criteria
from lla.hessian.spectrum import Spectrum
from lla.hessian.symmetric import SymmetricOperator
from lla.hessian.trace import trace
from lla.landscape.loss_plane import loss_plane
from lla.landscape.plane import Plane
from lla.layers.flatness import flatness
from lla.layers.layerwise import layerwise
from lla.parameters import ParameterSpace
from lla.problem import Problem

__all__ = [
    "ChecksumError",
    "Criteria",
    "Eigenpairs",
    "Estimate",
    "HessianOperator",
    "InputError",
    "InsufficientMemoryError",
    "Memory",
    "MissingDataError",
    "NonFiniteError",
    "ParameterSpace",
    "Plane",
    "Problem",
    "Spectrum",
    "SymmetricOperator",
    "Target",
    "WriteError",
    "__version__",
    "criteria",
    "flatness",
    "layerwise",
    "level_sets",
    "loss_plane",
    "minima",
    "spectral_density",
    "spectrum_criteria",
    "top_eigenpairs",
    "trace",
    "tune_allocator",
]
