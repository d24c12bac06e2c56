"""Imports point one way: an exhibit -> measure -> inputs -> evidence -> engine -> paper -> lla."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("paper", "engine", "evidence", "inputs", "measure", "exhibits")

# Packages that are imported where they are used: those that not everybody has, and those that take
# long to import and that few calls need.
LATE = {
    "PIL", "curvlinops", "hessian_eigenthings", "huggingface_hub", "matplotlib", "plotly",
    "rocrate", "submitit",
    "safetensors", "sklearn", "timm", "transformers",
}  # fmt: skip


def violations(root: Path) -> set[str]:
    """Every import in a checkout that points the wrong way or stands in a function."""
    found = set()
    for package in ("lla", "paper_tables", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            file = path.relative_to(root).as_posix()
            for names, function in _imports(path, root):
                if function and not _may_come_late(names[0]):
                    found.add(f"{file} imports {names[0]} inside {function}")
                if package == "lla" and names[0].startswith(("paper_tables", "benchmarks")):
                    found.add(f"{file} imports {names[0]}")
                if package == "paper_tables":
                    found |= {f"{file} imports {room}" for room in _wrong_rooms(file, names)}
    return found


def _imports(path: Path, root: Path) -> Iterator[tuple[list[str], str | None]]:
    """The modules that each import may mean, the surest first, and the function it stands in."""
    package = path.parent.relative_to(root).as_posix().split("/")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node): function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield [alias.name], inside.get(id(node))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield [module, *(f"{module}.{a.name}" for a in node.names)], inside.get(id(node))


def _may_come_late(module: str) -> bool:
    return module.partition(".")[0] in LATE


def _wrong_rooms(file: str, names: list[str]) -> set[str]:
    """The rooms above a file, and the other exhibits, that it imports."""
    own = _room(file.removesuffix(".py").replace("/", "."))
    if own is None:  # the suites themselves, which stand above all rooms
        return set()
    wrong = set()
    for room in filter(None, map(_room, names)):
        above = ROOMS.index(room[0]) > ROOMS.index(own[0])
        other = room[0] == own[0] == "exhibits" and None not in (room[1], own[1]) and room != own
        if (above and (room[1] or room[0] != "exhibits")) or other:
            wrong.add(".".join(filter(None, room)))
    return wrong


def _room(module: str) -> tuple[str, str | None] | None:
    """The room that a module lies in, and of an exhibit its folder."""
    package, room, folder, *_ = *module.split("."), "", ""
    if package != "paper_tables" or room not in ROOMS:
        return None
    return room, folder or None if room == "exhibits" else None


def test_imports_point_one_way():
    assert sorted(violations(ROOT)) == []


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("exhibits/table1/cells.py", "from paper_tables.exhibits.table2 import cells as other",
         "exhibits.table2"),
        ("exhibits/table1/cells.py", "from paper_tables.exhibits import table2", "exhibits.table2"),
        ("evidence/columns.py", "from paper_tables.inputs import lenet", "inputs"),
        ("inputs/lenet.py", "import paper_tables.measure.planes", "measure"),
        ("inputs/lenet.py", "from ..measure import planes", "measure"),
        ("paper/names.py", "from paper_tables.engine.records import Record", "engine"),
        ("measure/checks.py", "def late():\n    from lla import data", "lla inside late"),
        ("measure/checks.py", "def late():\n    import json", "json inside late"),
    ],
)  # fmt: skip
def test_a_wrong_import_is_found(tmp_path, file, line, message):
    _copy(tmp_path)
    path = tmp_path / "paper_tables" / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    assert violations(tmp_path) == {f"paper_tables/{file} imports {message}"}


def test_the_library_knows_no_paper(tmp_path):
    _copy(tmp_path)
    path = tmp_path / "lla" / "problem.py"
    path.write_text(f"{path.read_text()}\nimport paper_tables.paper\n")
    assert violations(tmp_path) == {"lla/problem.py imports paper_tables.paper"}


def test_slow_and_optional_packages_may_come_late(tmp_path):
    _copy(tmp_path)
    path = tmp_path / "paper_tables" / "measure" / "checks.py"
    path.write_text(f"{path.read_text()}\ndef late():\n    import matplotlib.pyplot\n")
    assert violations(tmp_path) == violations(ROOT)


def _copy(folder: Path) -> None:
    for package in ("lla", "paper_tables", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
