"""The notebook, the citation, and what the site makes of docstrings."""

import importlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import lla

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "first_steps.ipynb"


@pytest.fixture(scope="module")
def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_has_the_code_of_its_source(code_cells):
    source = (DOCS / "first_steps.source.md").read_text()
    shown = re.findall(r"^```python\n(.*?)\n```$", source, re.DOTALL | re.MULTILINE)
    assert ["".join(cell["source"]) for cell in code_cells] == shown


def test_the_notebook_was_run_in_order_and_without_a_warning(code_cells):
    assert [cell["execution_count"] for cell in code_cells] == [*range(1, len(code_cells) + 1)]
    outputs = [output for cell in code_cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    assert all(output.get("name") != "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


def test_the_notebook_is_small():
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_citation_is_of_this_version_by_its_developers(citation):
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == lla.__version__
    assert citation["authors"] == [{"name": "The lla developers"}]
    assert citation["type"] == "software"


def test_the_citation_and_the_page_name_the_same_works(citation):
    page = (DOCS / "cite.md").read_text()
    for work in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(work)
        # the schema of the format wants authors that differ
        assert len({str(author) for author in work["authors"]}) == len(work["authors"])
        assert work["url"] in page
        assert work["title"].lower() in page.lower()
    assert page.count("https://arxiv.org/") == len(citation["references"])


def test_links_to_results_lead_to_a_place_in_the_report():
    places = set(re.findall(r'\bid="([^"]+)"', (ROOT / "results" / "report.html").read_text()))
    pages = [page.read_text() for page in DOCS.rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"\]\([./]+results/(\w+)\.md\)", page)}
    assert {name.replace("_", "-") for name in named} <= places
    assert named


@pytest.fixture
def docstrings(monkeypatch):
    """The extension of Sphinx; the site's packages are an extra."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    yield importlib.import_module("docstrings")
    del sys.modules["docstrings"]


def test_mathematics_in_a_docstring_is_no_markup(docstrings):
    assert docstrings.escaped("|a| of v_ and *b, see `x|y`") == r"\|a\| of v\_ and \*b, see `x|y`"
    assert docstrings.escaped(">>> f(*x) | y") == ">>> f(*x) | y"


def test_indented_formulas_are_literal_blocks(docstrings):
    lines = ["A sum:", "", r"    a\_1 + \|b\|", "", "Args:", "    x: a number"]
    expected = ["A sum:", "", ".. code-block:: text", "", "    a_1 + |b|", *lines[3:]]
    assert docstrings.with_literal_formulas(lines) == expected


@dataclass(frozen=True)
class Result:
    """Something measured."""

    value: float  # [P], at most |x|
    # said above
    # in two lines
    count: int = 0
    bare: str = ""


def test_comments_on_fields_become_their_description(docstrings):
    fields = docstrings.fields_of(Result)
    assert fields == {
        "value": ("float", "[P], at most |x|"),
        "count": ("int", "said above in two lines"),
        "bare": ("str", ""),
    }
    text = docstrings.with_fields(["Something measured.", "", ">>> 1"], fields)
    assert r"    value (float): [P], at most \|x\|" in text
    assert text[-1] == ">>> 1"


def test_functions_that_are_imported_late_are_in_the_reference():
    # a module's own members are listed by Sphinx, but not what its __getattr__ finds
    reference = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    late = [name for name in lla.__all__ if name in lla._LATE]
    assert late
    assert all(f":: lla.{name}\n" in reference for name in late)
