import csv
import dataclasses
import shutil

import numpy as np
import pytest

from lla.data import File, files
from lla.data.files import file_hash
from lla.errors import ChecksumError, MissingDataError
from paper_tables.engine import claims, store
from paper_tables.engine import publish as render
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.publish import write_exhibit
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.table3 import EXHIBIT, sizes
from paper_tables.exhibits.table3 import cells as table3
from paper_tables.exhibits.table3.tables import tables as view
from paper_tables.paper import paper_columns, paper_rows, paper_value, tables
from tests.data import official

ROWS = ("mnist", "svhn", "cifar10", "cinic10", "cinic10-i")
COUNTED = {"mnist": 10, "svhn": 8, "cifar10": 13, "cinic10": 90, "cinic10-i": 20}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No data but what a test makes."""
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("LLA_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def settings(tmp_path):
    """A session with an empty data root."""
    root = tmp_path / "data"
    root.mkdir()
    return Settings(PROFILES["quick"], tmp_path / "results", tmp_path / "work", data_root=root)


@pytest.fixture
def put(settings, monkeypatch):
    """Put fakes of data sets into the data root."""

    def write(*names):
        for name in names:
            official.expect(monkeypatch, name, official.write(settings.data_root, name))

    return write


@pytest.fixture
def small_paper(monkeypatch):
    """A paper that prints the sizes of the fakes."""
    rows = tables()["table3"]["rows"]
    for row in ROWS:
        counts = official.COUNTS[row]
        for column, count in (("size", COUNTED[row]), *counts.items()):
            if column in rows[row]:
                monkeypatch.setitem(rows[row][column], "images", str(count))


def put_parts(settings, monkeypatch):
    """Parts of SVHN and CIFAR-10, as they lie in the data root of this project."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1])
    svhn = settings.data_root / "svhn" / "svhn_train_first1083.npz"
    cifar10 = settings.data_root / "cifar10" / "cifar10_lossless_subset.npz"
    for path in (svhn, cifar10):
        path.parent.mkdir()
    np.savez(svhn, x=pixels, y=labels)
    np.savez(cifar10, train_x=pixels, train_y=labels, test_x=pixels[:2], test_y=labels[:2])
    for name, path, splits in (
        ("svhn", svhn, ("train",)),
        ("cifar10", cifar10, ("train", "test")),
    ):
        file = File(path.name, file_hash(path, "sha256"))
        official.expect(monkeypatch, name, dict.fromkeys(splits, (file,)), form=1)


def counted(settings):
    """The records of all cells by row and column."""
    return {
        (cell.row, cell.column): cell.compute(cell, settings) if cell.compute else cell.not_run()
        for cell in table3.cells(settings)
    }


def flat(found):
    return [record for mine in found.values() for record in mine]


def judged(records):
    return next(j for j in claims.judge(records, find()) if j.claim.id == "D.sizes")


def test_the_printed_values():
    assert paper_rows("table3") == ROWS
    assert paper_columns("table3") == ("image", "size", "train", "test")
    for row in ROWS:
        size, *splits = (
            int(paper_value("table3", row, column, "images"))
            for column in ("size", "train", "test")
        )
        assert size == sum(splits) + (90000 if row == "cinic10" else 0)  # its validation split
    assert [paper_value("table3", row, "image", "channels") for row in ROWS] == list("11333")


def test_every_set_in_its_official_format_is_counted(settings, put, small_paper):
    put(*ROWS)
    found = counted(settings)
    for row in ROWS:
        for column, expected in {"size": COUNTED[row], **official.COUNTS[row]}.items():
            if column in paper_columns("table3"):
                (record,) = found[row, column]
                assert (record.value, record.verdict) == (expected, "reproduced")
                assert (record.fidelity, record.data.name) == ("paper", row)
    notes = [found[row, "size"][0].note for row in ("svhn", "cinic10", "cinic10-i")]
    assert notes == [
        "5 training + 3 test",
        "30 training + 30 validation + 30 test",
        "10 training + 10 test",
    ]
    holds = judged(flat(found))
    assert (holds.verdict, holds.fidelity) == ("holds", "paper")
    assert len(holds.cells) == 15
    assert "equal: MNIST, SVHN, CIFAR-10, CINIC-10, CINIC-10-i" in holds.note
    assert "90000" in holds.note


def test_the_shape_is_that_of_the_networks_input(settings, put):
    put(*ROWS)
    found = counted(settings)
    shapes = {row: [r.value for r in found[row, "image"]] for row in ROWS}
    assert shapes["mnist"] == shapes["svhn"] == [32, 32, 1]
    assert shapes["cifar10"] == shapes["cinic10"] == shapes["cinic10-i"] == [32, 32, 3]
    assert {r.verdict for row in ROWS for r in found[row, "image"]} == {"reproduced"}
    assert found["mnist", "image"][0].note.startswith("stored as 28x28x1: MNIST")
    assert "luma" in found["svhn", "image"][0].note


def test_a_complete_set_of_another_size_refutes_the_claim(settings, put):
    put("mnist")
    found = counted(settings)
    assert found["mnist", "train"][0].verdict == "differs"
    fails = judged(flat(found))
    assert fails.verdict == "fails"
    assert "MNIST size 10, not 70000" in fails.note
    assert "CINIC-10: there are no training images" in fails.note


def test_a_part_is_not_counted_and_its_shape_is(settings, monkeypatch):
    put_parts(settings, monkeypatch)
    found = counted(settings)
    for row, there in (
        ("svhn", "there are 4 of 73257 training images, no test images"),
        ("cifar10", "there are 4 of 50000 training images, 2 of 10000 test images"),
    ):
        for column in ("size", "train", "test"):
            (record,) = found[row, column]
            assert (record.value, record.verdict) == (None, "not_run")
            assert record.reason.startswith(f"{there}: run `lla data fetch {row}`")
        assert [(r.fidelity, r.verdict) for r in found[row, "image"]] == [
            ("reduced", "reproduced")
        ] * 3
    unknown = judged(flat(found))
    assert unknown.verdict == "not_run", "nothing is complete"
    assert "SVHN: there are 4 of 73257 training images" in unknown.note


def test_beside_a_part_complete_sets_leave_the_claim_undecided(
    settings, put, small_paper, monkeypatch
):
    put("mnist")
    put_parts(settings, monkeypatch)
    found = judged(flat(counted(settings)))
    assert found.verdict == "undecided"
    assert found.cells == tuple(f"table3 mnist {column}" for column in ("size", "train", "test"))
    assert "equal: MNIST; not counted: SVHN: there are 4 of" in found.note


def test_one_split_may_be_there_without_the_other(settings, put, small_paper):
    put("svhn")
    (settings.data_root / "svhn" / "test_32x32.mat").unlink()
    found = counted(settings)
    assert found["svhn", "train"][0].value == 5
    assert found["svhn", "size"][0].reason.startswith("there are all training images, no test")
    assert "SVHN train; not counted" in judged(flat(found)).note


def test_what_is_missing_says_so_without_a_folder(settings):
    cells = table3.cells(settings)
    assert len(cells) == 20
    assert not any(cell.compute for cell in cells)
    assert "there are no training images, no validation images, no test images" in next(
        cell.reason for cell in cells if (cell.row, cell.column) == ("cinic10", "size")
    )
    assert not any(str(settings.data_root) in cell.reason for cell in cells)


def test_another_file_is_no_count(settings, put):
    put("mnist")
    path = settings.data_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChecksumError, match=path.name):
        counted(settings)


# --- downloads


@pytest.fixture
def downloading(settings):
    return Settings(
        PROFILES["paper"], settings.results, settings.work, settings.data_root, download=True
    )


def test_what_is_not_complete_is_downloaded(downloading, monkeypatch, tmp_path, cache, small_paper):
    put_parts(downloading, monkeypatch)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    official.expect(monkeypatch, "svhn", official.write(elsewhere, "svhn"))

    def download(urls, expected, target, *options):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(elsewhere / target.relative_to(cache), target)

    monkeypatch.setattr(files, "download", download)
    cells = {(c.row, c.column): c for c in table3.cells(downloading)}
    for column, expected in (("size", 8), ("train", 5), ("test", 3)):
        cell = cells["svhn", column]
        assert (cell.fidelity, cell.config["form"]) == ("paper", "paper")
        (record,) = cell.compute(cell, downloading)
        assert (record.value, record.verdict) == (expected, "reproduced")


def test_a_download_that_fails_is_a_reason(downloading, monkeypatch):
    def download(urls, *rest):
        raise MissingDataError(f"no address could be downloaded ({urls[0]}: /secret/folder).")

    monkeypatch.setattr(files, "download", download)
    put_parts(downloading, monkeypatch)
    suite = Suite(find(), downloading)
    for cell in table3.cells(downloading):
        if cell.row == "svhn":
            suite.run(cell)
    records = store.published(downloading.results)
    reasons = {r.column: r.reason for r in records if r.value is None}
    assert set(reasons) == {"size", "train", "test"}
    assert set(reasons.values()) == {
        "the download failed; there are 4 of 73257 training images, no test images: run "
        "`lla data fetch svhn`, or see `lla data list` for where to put the files"
    }
    assert {r.value for r in records if r.column == "image"} == {32.0, 1.0}, "the part has a shape"


# --- what is made of the records


@pytest.fixture
def records(settings, put, monkeypatch):
    put("mnist", "cinic10", "cinic10-i")
    put_parts(settings, monkeypatch)
    return flat(counted(settings))


def test_the_files(records, tmp_path):
    write_exhibit(EXHIBIT, records, tmp_path)
    text = (tmp_path / "table3.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 5
    assert len({line.count("|") for line in lines}) == 1
    assert "10 (70000) differs [paper]" in lines[2]
    assert "32x32x1 (32x32x1) reproduced [reduced]" in lines[3]
    assert lines[3].count("not run, note 1") == 3
    assert "90 (270000) differs [paper]" in lines[5]
    assert "20 (140000) differs [paper]" in lines[6]
    assert "1. there are 4 of 73257 training images, no test images" in text
    assert "90000" in text
    tex = (tmp_path / "table3.tex").read_text()
    assert r"\toprule" in tex
    assert tex.isascii()
    with (tmp_path / "table3.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(records)


def test_nothing_was_counted_yet(tmp_path):
    write_exhibit(EXHIBIT, [], tmp_path)
    assert "1. not computed yet" in (tmp_path / "table3.md").read_text()
    assert judged([]).verdict == "not_run"


def test_the_most_faithful_records_are_shown(records):
    cell = sizes.shown(records, "cifar10", "image")
    assert (cell.text, cell.fidelity) == ("32x32x3", "reduced")

    old = [r for r in records if (r.row, r.column) == ("cifar10", "image")]
    changes = {"value": 31.0, "verdict": "differs", "fidelity": "paper"}
    config = {"config": {"form": "paper"}, "config_hash": ""}
    new = [dataclasses.replace(r, **changes, **config) for r in old]
    for order in ([*old, *new], [*new, *old]):
        cell = sizes.shown(order, "cifar10", "image")
        assert (cell.text, cell.verdict, cell.fidelity) == ("31x31x31", "differs", "paper")


def test_the_overview_has_a_line_a_set(records):
    text = render.overview(find(), records)
    assert "10 (70000) x [paper]" in text
    assert "32x32x1 (32x32x1) = [reduced]" in text
    assert "CINIC-10-i" in text


def test_the_report_has_the_table(records):
    (table,) = view(records)
    assert table.id == "table3"
    assert dict(table.counts) == {"reproduced": 5, "differs": 9, "not_run": 6}
    (group,) = table.groups
    first = group.lines[1].entries[1]
    assert first.remark == "there are 4 of 73257 training images, no test images"
    assert group.lines[0].entries[1].traces
    assert not view([])[0].files
