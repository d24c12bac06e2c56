"""The command `lla`: one file for each kind of command, which adds its commands to `app`."""

from lla.cli import analysis, catalogue, landscapes, layers, level_sets, minima, spectra, suites
from lla.cli.command import app

__all__ = [
    "analysis",
    "app",
    "catalogue",
    "landscapes",
    "layers",
    "level_sets",
    "minima",
    "spectra",
    "suites",
]
