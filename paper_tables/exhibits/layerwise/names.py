"""Names of networks as pages show them."""

from __future__ import annotations

from paper_tables.paper.names import display

_NAMES = {"digits-mlp": "MLP on digits", "mnist-mlp": "MLP on MNIST"}


def network_name(row: str) -> str:
    """The name of a network by its row."""
    return _NAMES.get(row, display(row))
