"""The command `lla`: one file for each kind of command, which adds its commands to `app`."""

from lla.cli import catalogue, landscapes, layers, level_sets, minima, spectra, suites
from lla.cli.command import app

__all__ = ["app", "catalogue", "landscapes", "layers", "level_sets", "minima", "spectra", "suites"]
