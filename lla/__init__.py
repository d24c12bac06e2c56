"""Loss landscapes and Hessian spectra of PyTorch models."""

from lla._version import __version__

__all__ = ["__version__"]
