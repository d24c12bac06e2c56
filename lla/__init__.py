"""Loss landscapes and Hessian spectra of PyTorch models.

Modules such as `lla.data`, `lla.models` and `lla.spectra` are imported when they are first used.
"""

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING

from lla._version import __version__
from lla.allocator import tune_allocator
from lla.errors import (
    ChecksumError,
    InputError,
    InsufficientMemoryError,
    MissingDataError,
    NonFiniteError,
    RankError,
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
from lla.ranks import alone
from lla.tracking.tracker import Tracker

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
    "RankError",
    "Spectrum",
    "SymmetricOperator",
    "Target",
    "Tracker",
    "WriteError",
    "__version__",
    "alone",
    "analyze",
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

_LATE = {"analyze": "lla.analysis"}  # what stands above all else is imported when it is first used

if TYPE_CHECKING:  # a type checker shall know which names there are
    from lla import data as data
    from lla import finite_differences as finite_differences
    from lla import level_sets as level_sets
    from lla import measures as measures
    from lla import minima as minima
    from lla import models as models
    from lla import plotting as plotting
    from lla import spectra as spectra
    from lla import tracking as tracking
    from lla import training as training
    from lla.analysis import analyze as analyze
else:

    def __getattr__(name: str) -> object:
        """Import a module of the package when it is first used (PEP 562)."""
        if name in _LATE:
            return getattr(importlib.import_module(_LATE[name]), name)
        if not name.startswith("_") and importlib.util.find_spec(f"lla.{name}") is not None:
            return importlib.import_module(f"lla.{name}")
        raise AttributeError(f"module 'lla' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What this module offers, with the modules that are not imported yet."""
    modules = {each.name for each in pkgutil.iter_modules(__path__)}
    return sorted({*globals(), *(name for name in modules if not name.startswith("_"))})
