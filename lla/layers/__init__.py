"""What is asked of one layer of a network: flatness, and curvature by layers."""

from lla.layers.blocks import off_block_share
from lla.layers.fisher import FisherOperator
from lla.layers.ggn import GGNOperator
from lla.layers.kronecker import KroneckerOperator
from lla.layers.moments import Moments, moments
from lla.overlaps import overlap, random_overlap

__all__ = [
    "FisherOperator",
    "GGNOperator",
    "KroneckerOperator",
    "Moments",
    "moments",
    "off_block_share",
    "overlap",
    "random_overlap",
]
