import numpy as np
import pytest

from lla.report import pages
from paper_tables.engine import figures
from paper_tables.exhibits.flatness import EXHIBIT
from tests.paper_tables.planted_flatness import cost, formulas, known, networks_of

GAPS = np.random.default_rng(0).uniform(0.1, 1.0, 24)


@pytest.fixture(scope="module")
def records():
    return [*formulas(), *known(), *cost(), *networks_of(GAPS, kappa=GAPS)]


@pytest.fixture(scope="module")
def page(records):
    return pages.markdown(EXHIBIT.tables(records), "")


@pytest.mark.parametrize(
    "text",
    [
        "24 networks on MNIST",
        "| 1 x 1 classifier",
        "LeNet, filters scaled",
        "ResNet18",
        "conv3, closed form; file; 4 x 64 px of ImageNet",
        "resnet20, closed form, last layer",
        "sharpness (PAC-Bayes style)",
        "standard error of one 0.01",
        "+1.00 [+1.00, +1.00]",
        "linear",
    ],
)
def test_the_page_shows(page, text):
    assert text.lower() in page.lower()


def test_without_records_every_table_says_so():
    tables = EXHIBIT.tables([])
    assert len(tables) == 4
    assert all(not table.groups for table in tables)
    assert EXHIBIT.figures([]) == []
    assert EXHIBIT.findings([]) == []


def test_figures_are_drawn(records, tmp_path):
    drawings = EXHIBIT.figures(records)
    assert {d.name for d in drawings} == {"flatness_gap_mnist", "flatness_layers_resnet20"}
    figures.write(drawings, tmp_path)
    assert all(figures.path_of(d, tmp_path).stat().st_size > 5000 for d in drawings)


def test_the_finding_names_the_winner(records):
    (found,) = EXHIBIT.findings(records)
    assert "of 24 networks trained on MNIST" in found.text
    assert "Kappa has the largest |tau|, +1.00" in found.text


@pytest.mark.parametrize("count", [5, 9, 10])  # of 9, the filter would leave six
def test_few_networks_make_a_table_without_lines_and_a_figure(count):
    few = networks_of(GAPS[:count])
    (table,) = [t for t in EXHIBIT.tables(few) if t.id == "flatness-mnist"]
    assert not table.groups
    (drawing,) = EXHIBIT.figures(few)
    drawing.draw(None)
