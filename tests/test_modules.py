"""`import lla` reaches its modules without importing them, and bars work in notebooks."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lla

FILES = sorted(Path(lla.__file__).parent.rglob("*.py"))
SCRIPT = """
import sys, lla
late = ("data", "models", "spectra", "training", "minima", "level_sets")
assert not any(f"lla.{name}" in sys.modules for name in late), "imported at once"
assert "matplotlib" not in sys.modules
for name in late:
    assert getattr(lla, name) is sys.modules[f"lla.{name}"]
"""


def test_modules_are_imported_when_they_are_used():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_every_public_module_is_named_and_reached():
    root = Path(lla.__file__).parent
    files = {path.stem for path in root.glob("*.py")} | {p.parent.name for p in root.glob("*/*.py")}
    public = {name for name in files if not name.startswith("_")}
    assert public <= set(dir(lla))
    assert {"data", "models", "landscape", "layers", "measures", "training", "spectra"} <= public
    assert lla.data.__name__ == "lla.data"


def test_the_functions_at_the_top_are_not_hidden_by_modules():
    for name in lla.__all__:
        if name not in ("__version__", "level_sets", "minima"):
            assert callable(getattr(lla, name)), name


@pytest.mark.parametrize("name", ["crit", "_private", "torch_", "Spectra"])
def test_other_names_are_refused_as_usual(name):
    with pytest.raises(AttributeError, match=f"module 'lla' has no attribute '{name}'"):
        getattr(lla, name)
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from lla import {name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_module_can_be_imported(path):
    """A module that cannot be imported has no examples that run, and pytest would pass it over."""
    parts = ("lla", *path.relative_to(Path(lla.__file__).parent).with_suffix("").parts)
    if parts[-1] == "__main__":
        return
    try:
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
    except ImportError as error:
        if parts[:2] != ("lla", "tracking"):
            raise
        pytest.skip(str(error))


def test_bars_are_those_that_notebooks_show():
    wrong = [
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "tqdm"
    ]
    assert wrong == []
