"""What the two commands stand on: pins, versions, and files that fit any machine."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lla

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along where Python has none

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared() -> list[Requirement]:
    """Every requirement that pyproject.toml names, for the package, its extras and its build."""
    table = project()
    lists = [
        table["build-system"]["requires"],
        table["project"]["dependencies"],
        *table["project"]["optional-dependencies"].values(),
        *table["dependency-groups"].values(),
    ]
    return [Requirement(line) for lines in lists for line in lines]


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(environment: dict[str, str] | None = None) -> dict[str, str]:
    """The version that constraints.txt gives each package in an environment (here: None)."""
    found: dict[str, str] = {}
    for line in constraints():
        if line.marker is None or line.marker.evaluate(environment):
            name = canonicalize_name(line.name)
            assert name not in found, f"constraints.txt pins {name} twice in {environment}"
            (specifier,) = line.specifier
            found[name] = specifier.version
    return found


def markers(python: str, platform: str, machine: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": platform,
        "platform_machine": machine,
        "platform_system": platform.capitalize(),
        "platform_python_implementation": "CPython",
    }


def test_every_constraint_is_one_exact_version():
    assert all([item.operator for item in line.specifier] == ["=="] for line in constraints())
    assert all("*" not in str(line.specifier) and not line.extras for line in constraints())


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("platform", "machine"), MACHINES)
def test_every_dependency_is_pinned_inside_its_range(python, platform, machine):
    pinned = pins(markers(python, platform, machine))
    for requirement in declared():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} excludes the pin {version}"


def test_constraints_name_packages_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line), line


@pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="pins bind tox's environments only")
def test_what_is_installed_is_what_is_pinned():
    pinned = pins()
    wrong = []
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        # a local part, as in 2.13.0+cpu, names a build of the same version
        if name not in {"lla", "pip"} and pinned.get(name) != distribution.version.split("+")[0]:
            wrong.append(f"{name} {distribution.version} instead of {pinned.get(name)}")
    assert not wrong, ", ".join(sorted(wrong))


def test_versions_agree():
    assert lla.__version__ == importlib.metadata.version("lla")
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(lla.__version__)}\b", changelog, re.MULTILINE)
    assert project()["project"]["requires-python"] == f">={PYTHONS[0]}"


def test_the_readme_commands_differ_in_the_environment_alone():
    readme = (ROOT / "README.md").read_text()
    commands = [
        re.search(rf"<!-- {name} command -->\n```sh\n(.+)\n```\n", readme)
        for name in ("tables", "tests")
    ]
    assert all(commands), "a marker, and behind it a fenced command of one line"
    tables, tests = (command.group(1) for command in commands)
    assert tests.endswith("tox -e tests")  # the end that .ci/run replaces for the lint
    assert tables == tests.replace("-e tests", "-e tables")


def files() -> list[Path]:
    """What is in the repository, or would be after `git add --all`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # a checkout that belongs to somebody else, say
        pytest.skip(f"git lists no files: {listed.stderr.strip()}")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert paths
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_machine():
    """No folder of one machine, no package index, no file address."""
    places = "|".join(("root", "home", "Users", "work", "opt", "mnt", "tmp"))
    patterns = [
        re.compile(rf"(?<![\w./~$}})>-])/({places})/[\w.]"),
        re.compile(r"file:/{2,}\w"),
        re.compile(r"https?://[\w.-]*(pypi|pythonhosted|download\.pytorch)\b"),
    ]
    found = []
    for path in files():
        if path.match("paper_tables/engine/test_records.py"):  # has what records refuse
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture or an archive
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if str(ROOT) in line or any(pattern.search(line) for pattern in patterns):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_no_file_is_too_large_to_read_in_a_diff():
    big = [path.name for path in files() if path.stat().st_size > 8 * 2**20]
    assert not big, f"more than 8 MiB: {big}"
