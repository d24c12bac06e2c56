"""The examples of the pages in docs/ run."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

from lla._torchvision import import_torchvision

DOCS = Path(__file__).parents[1] / "docs"
# a block behind this comment runs where a package is installed
BLOCK = re.compile(r"<!-- runs with (\w+) -->\n```python\n(.+?)```", re.DOTALL)
BLOCKS = [block for page in sorted(DOCS.glob("*.md")) for block in BLOCK.findall(page.read_text())]
PAGES = [page for page in sorted(DOCS.glob("*.md")) if ">>> " in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page):
    # a fence ends the output of an example
    text = page.read_text().replace("```\n", "\n")
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    said = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.filterwarnings("ignore")  # what other packages warn of
@pytest.mark.parametrize(("package", "code"), BLOCKS, ids=[package for package, _ in BLOCKS])
def test_the_block_for_a_package_runs(package, code, tmp_path, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    import_torchvision()  # these packages import it
    names = {"__name__": package}
    exec(code, names)
    rows = names["callback"].tracker.rows
    assert rows[0].step == 8
    assert all(row.re is not None for row in rows)
