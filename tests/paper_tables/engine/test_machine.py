import os

from lla.files import sha256_of_parts
from paper_tables.engine import machine
from paper_tables.engine.records import Record


def test_environment_fits_a_record():
    record = Record(
        table="table2",
        row="lenet",
        column="random/eval",
        metric="kh1",
        value=0.98,
        fidelity="reduced",
        **machine.environment(),
    )
    assert record.device == "cpu"
    assert record.threads >= 1
    assert record.code_version.startswith("0.")
    kind, cores = record.cpu.split(", ")
    assert kind in {"DEFAULT", "NO AVX", "AVX2", "AVX512"} or kind.isupper()
    assert cores == f"{os.cpu_count()} cores"


def test_peak_memory_sees_an_allocation_and_forgets_it():
    machine.reset_peak_memory()
    before = machine.peak_memory()
    block = bytearray(os.urandom(1)) * (64 << 20)
    peak = machine.peak_memory()
    assert peak >= before
    assert len(block) == 64 << 20
    assert peak > 64 << 20


def test_the_code_version_is_a_hash_of_the_source(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "__init__.py").write_text("a")
    (tmp_path / "models" / "b.py").write_text("b")
    (tmp_path / "notes.txt").write_text("not code")
    monkeypatch.setattr(machine.lla, "__file__", str(tmp_path / "__init__.py"))
    expected = sha256_of_parts(["__init__.py\0a", "models/b.py\0b"])
    assert machine.code_version.__wrapped__() == f"{machine.lla.__version__}+{expected[:12]}"
