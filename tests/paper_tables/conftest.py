import pytest
import torch

from lla import data
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Source
from paper_tables.inputs import lenet

SHA = "ab" * 32
CONFIG = {
    "m": 100,
    "probes": 3,
    "batches": 2,
    "batch_size": 512,
    "seed": 0,
    "dtype": "float32",
    "init": "torch",
    "legacy": False,
}


@pytest.fixture
def make_cell():
    """A cell of Table 2 that needs no network: `values` are what it computes."""

    def make(
        values=None, column="random/eval", *, calls=None, row="lenet", table="table2", **facts
    ):
        values = {"kh1": 0.97} if values is None else values
        facts = {"fidelity": "reduced", "stderr": 0.01, "data": "mnist"} | facts
        config = {**CONFIG, "column": column, **facts.pop("config", {})}
        stderr, data = facts.pop("stderr"), Source(facts.pop("data"), SHA)
        artifact, weights = facts.pop("artifact", None), facts.pop("weights", None)

        def compute(cell, settings):
            if calls is not None:
                calls.append(cell.name)
            return [
                cell.record(
                    metric,
                    value,
                    stderr,
                    n=2,
                    stderr_kind="batches",
                    data=data,
                    weights=weights,
                    artifact=artifact(cell, settings) if artifact else None,
                )
                for metric, value in values.items()
            ]

        return Cell(
            **{
                "table": table,
                "row": row,
                "column": column,
                "name": f"{row}-{column.replace('/', '-')}",
                "metrics": tuple(values),
                "config": config,
                "inputs": "nothing",
                "compute": compute,
                "seconds": 1.0,
                "memory": 2**20,
                **facts,
            }
        )

    return make


@pytest.fixture
def make_records(make_cell):
    """The records of such a cell."""

    def make(*args, **facts):
        cell = make_cell(*args, **facts)
        return cell.compute(cell, None) if cell.compute else cell.not_run()

    return make


@pytest.fixture(scope="session")
def digits():
    return data.load("digits", "train")


@pytest.fixture
def without_data(tmp_path, monkeypatch, digits):
    """Settings, by their profile, in a place without any data: bundled images stand in."""
    monkeypatch.setattr(lenet, "images", lambda settings: digits)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("LLA_DATA", raising=False)
    root = tmp_path / "data"
    root.mkdir()
    return lambda profile: Settings(
        profile, tmp_path / "results", tmp_path / "work", data_root=root
    )


@pytest.fixture(scope="module")
def server():
    """The process that forks runs of pytest."""
    suites = pytest.importorskip("tests.paper_tables.planted_suites")  # fork and ptys are POSIX
    with suites.serving() as process:
        yield process


@pytest.fixture
def runs(server, tmp_path):
    """Runs of pytest over a suite of tiny cells in one folder."""
    return pytest.importorskip("tests.paper_tables.planted_suites").Runs(server, tmp_path)
