"""README.md and the pages in docs/: their code runs and prints what they say; names exist."""

import ast
import importlib
import importlib.util
import re
import shlex
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import lla
from lla._torchvision import import_torchvision
from lla.cli import app

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
WITH_CODE = [page for page, path in PAGES.items() if re.search("```(python|sh)", path.read_text())]
# what a comment above a block says -> why the block does not run here
ELSEWHERE = {
    "toy exhibit": "tests/paper_tables/test_toy_exhibit.py runs it",
    "needs a download": "the tests have no network",
    "needs a GPU": "there may be none",
    "needs several processes": "tests/ranks runs such programs",
}
OPTIONAL = {"transformers", "lightning", "tensorboard"}  # packages that a page may ask for
# a number; names such as conv2 hold none
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.?\d*(?:e[-+]?\d+)?(?!\w)")


def _loaded(file, name):
    spec = importlib.util.spec_from_file_location(name, file)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


pages = _loaded(ROOT / "docs" / "pages.py", "lla_docs_pages")


def assert_same_output(printed, expected, where):
    """The same words, and numbers that agree to a fifth: they depend on the machine's rounding."""
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", expected).split(), where
    found, shown = (list(map(float, NUMBER.findall(text))) for text in (printed, expected))
    assert found == pytest.approx(shown, rel=0.2, abs=1e-12), where


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to run a page in, from which it can import its own files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs_and_prints_what_it_says(page, folder):
    text, names = PAGES[page].read_text(), {"__name__": "__main__"}
    for name in re.findall(r'"(results/[\w./-]+)"', text):  # the page is read in a checkout
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    if re.search("from (timm|torchvision|transformers)", text):
        import_torchvision()  # as these do
    for block in pages.blocks(text):
        where = f"{page}:{block.line}"
        if block.language == "python" and block.note in ELSEWHERE:
            ast.parse(block.code)
        elif block.language == "python":
            try:
                with warnings.catch_warnings():
                    if any(f"import {package}" in block.code or f"from {package}" in block.code
                           for package in OPTIONAL):  # fmt: skip
                        warnings.simplefilter("ignore")  # what other packages warn of
                    printed = pages.run(block, names, page)
            except ModuleNotFoundError as error:
                if error.name not in OPTIONAL:
                    raise
                pytest.skip(f"{where} needs {error.name}, which is not installed")
            if block.code.startswith(">>> "):
                assert printed == "", where
            elif block.printed is not None:
                assert_same_output(printed, block.printed, where)
        elif block.language == "sh":
            _run_commands(block, folder, where)


def _run_commands(block, folder, where):
    """Run the commands of lla on files of the page; of others the options are checked."""
    printed = ""
    for words in map(_words, _lines(block.code)):
        if words[:1] != ["lla"]:
            continue
        own = {name.partition(":")[0] for name in words if ":" in name}
        if any((folder / f"{name}.py").exists() for name in own):
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{where}: {result.output}{result.exception or ''}"
            printed += result.stdout
        else:
            _check_options(words, where)
    if printed and block.printed is not None:
        assert_same_output(printed, block.printed, where)


def _lines(code):
    return code.replace("\\\n", " ").splitlines()


def _words(line):
    return shlex.split(line, comments=True)


def _check_options(words, where):
    """The command exists, and its options and their values are of the right kind."""
    command, rest = typer.main.get_command(app), words[1:]
    context = command.make_context("lla", ["doctor"])
    while hasattr(command, "resolve_command") and not rest[0].startswith("-"):
        _, command, rest = command.resolve_command(context, rest)
        assert command is not None, where
    if rest[:1] not in (["--help"], ["--version"]):
        command.make_context(words[1], list(rest))


@pytest.mark.parametrize(
    "command", ["lla criteria lenet --prob 3", "lla criterion lenet", "lla plane lenet --axes both"]
)
def test_a_wrong_command_would_be_found(command):
    with pytest.raises(Exception, match=r"No such (option|command)|is not one of"):
        _check_options(command.split(), "here")


@pytest.mark.parametrize("printed", ["r_e 0.7 of conv2", "r_e 0.5 of conv1", "r_e 0.5"])
def test_another_output_would_be_found(printed):
    assert_same_output("r_e 0.51 of conv2", "r_e 0.5 of conv2", "here")
    with pytest.raises(AssertionError):
        assert_same_output(printed, "r_e 0.5 of conv2", "here")


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_library_on_a_page_exist(page):
    _assert_exist(PAGES[page].read_text(), page)


def test_names_of_the_library_in_docstrings_exist():
    for path in sorted((ROOT / "lla").rglob("*.py")):
        _assert_exist(path.read_text(), path)


def _assert_exist(text, where):
    for name in sorted(set(re.findall(r"`(lla(?:\.\w+)+)", text))):
        found, parts = lla, name.split(".")[1:]
        for i, part in enumerate(parts):
            if not hasattr(found, part):
                module = f"lla.{'.'.join(parts[: i + 1])}"
                fields = getattr(found, "__annotations__", {})
                if part in fields:  # of a dataclass without a default
                    break
                try:
                    importlib.import_module(module)
                except ImportError:  # its package may be missing here
                    if importlib.util.find_spec(module) is None:
                        pytest.fail(f"{where} names {name}, which does not exist")
                if not hasattr(found, part):
                    break
            found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files(page):
    path = PAGES[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (path.parent / target.partition("#")[0]).exists(), f"{page} links to {target}"


def test_pictures_of_pages_are_small():
    pictures = sorted((ROOT / "docs").rglob("*.png"))
    large = [path.name for path in pictures if path.stat().st_size > 200_000]
    assert pictures
    assert large == []
