"""Imports point one way: no module of a lower room imports a higher one, and there is no circle."""

import ast
from pathlib import Path

import pytest

import lla

ROOT = Path(lla.__file__).parent
# from the lowest to the highest; modules without a room of their own stand between the rooms
ORDER = (
    "refusals", "symmetric", "products", "operator", "lanczos", "memory", "kind", "spectrum",
    "quadrature", "ratios", "accuracy", "density", "eigenpairs", "trace", "rounding", "criteria",
)  # fmt: skip
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def imports(path):
    """The modules of lla that a file imports when it is loaded."""
    nodes = ast.parse(path.read_text()).body
    froms = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("lla")]
    parts = [f"{n.module}.{each.name}" for n in froms for each in n.names]
    known = set(map(name_of, FILES))
    return [part if part in known else part.rpartition(".")[0] for part in parts]


def room(module):
    parts = module.split(".")
    return ORDER.index(parts[2]) if parts[:2] == ["lla", "hessian"] and len(parts) > 2 else None


def name_of(path):
    return ".".join(["lla", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(
        ".__init__"
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downwards(path):
    own = room(name_of(path))
    for module in imports(path):
        if own is None:
            continue
        assert not module.startswith(("lla.landscape", "lla.cli", "lla.data", "lla.models")), module
        other = room(module)
        assert other is None or other <= own, module


def test_no_circle():
    graph = {name_of(path): set(imports(path)) for path in FILES}
    done: set[str] = set()
    while True:
        free = {name for name, needs in graph.items() if needs & set(graph) <= done} - done
        if not free:
            break
        done |= free
    assert set(graph) - done == set()
