"""One page on a network: what is measured, what it means, and how it is shown."""

from lla.analysis.analyzing import analyze
from lla.analysis.result import Analysis, Blocks, Finding

__all__ = ["Analysis", "Blocks", "Finding", "analyze"]
