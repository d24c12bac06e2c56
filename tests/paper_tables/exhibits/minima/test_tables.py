import pytest

from lla.report import pages
from paper_tables.exhibits.minima import EXHIBIT
from tests.paper_tables.planted_minima import balls, minima, minimum, scanned


@pytest.fixture(scope="module")
def records():
    lost = [r for s in range(2) for r in minimum("mnist", "b = 0.9", 0.9, s, reached=False)]
    return [*minima(), *lost, *balls(), *scanned()]


@pytest.fixture(scope="module")
def page(records):
    return pages.markdown(EXHIBIT.tables(records), "")


@pytest.mark.parametrize(
    "text",
    [
        "3 of 3",
        "0 of 2",
        "b = 0.9",
        "100 steps, 0 wrong",
        "MNIST, LeNet",
        "9 training examples, 5 directions, cutoff 0.1",
        "3 good and 6 bad minima",
        "(difference)",
        "n = 3488",
        "spread 2, 250 directions",
        "digits, natural",
        "[-8010, -7990]",
    ],
)
def test_the_page_shows(page, text):
    assert text in page


def test_the_index_is_never_called_a_volume_without_the_calibration(page, records):
    for table in EXHIBIT.tables(records):
        if "volume" in f"{table.title} {table.legend}":
            assert "no volume" in f"{table.title} {table.legend}"
    assert page.count("The radial index is no volume") == 1


def test_without_records_every_table_says_so():
    tables = EXHIBIT.tables([])
    assert len(tables) == 5
    assert all(not table.groups for table in tables)
    assert EXHIBIT.figures([]) == []
    assert EXHIBIT.findings([]) == []


def test_the_finding_has_the_numbers(records):
    (found,) = EXHIBIT.findings(records)
    assert "On MNIST [reduced] natural minima have a test accuracy of 95.10" in found.text
    assert "log10 radial index 1.00" in found.text
