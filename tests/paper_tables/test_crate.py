"""The results as an RO-Crate: what is in it, what a changed file does, what a validator says."""

import importlib.resources
import io
import json
import shutil

import pytest

from lla.errors import ChecksumError, InputError
from paper_tables import crate


@pytest.fixture
def results(tmp_path):
    """A small folder of results."""
    folder = tmp_path / "results"
    (folder / "records").mkdir(parents=True)
    (folder / "leases").mkdir()
    for name in ("README.md", "records/table2.jsonl", "figure.png", "leases/cell.lease", ".lock"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def written(results, tmp_path):
    pytest.importorskip("rocrate")
    folder = tmp_path / "crate"
    assert crate.write(results, folder) == 3
    return folder


def test_every_file_is_named_with_its_hash(written):
    assert crate.check(written) == 3
    graph = json.loads((written / crate.METADATA).read_text())["@graph"]
    by_id = {each["@id"]: each for each in graph}
    page = by_id["results/README.md"]
    assert page["encodingFormat"] == "text/markdown"
    assert page["contentSize"] == str(len("README.md"))
    assert by_id["./"]["license"]
    assert not any("lease" in name or "lock" in name for name in by_id)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(lambda f: (f / "results/README.md").write_text("other"), "README.md is not the file"),
     (lambda f: (f / "results/figure.png").unlink(), "figure.png is not the file"),
     (lambda f: (f / "results/new.md").write_text(""), "new.md is in the folder, but not in"),
     (lambda f: (f / crate.METADATA).unlink(), "is no crate of results"),
     (lambda f: (f / crate.METADATA).write_text("{"), "is no crate of results")],
)  # fmt: skip
def test_a_changed_crate_is_refused(written, change, sentence):
    change(written)
    with pytest.raises((ChecksumError, InputError), match=sentence):
        crate.check(written)


def test_what_cannot_be_written(results, tmp_path, monkeypatch):
    pytest.importorskip("rocrate")
    with pytest.raises(InputError, match="is not empty: name another folder"):
        crate.write(results, results)
    with pytest.raises(InputError, match="has no files"):
        crate.write(tmp_path / "none", tmp_path / "crate")
    monkeypatch.setattr(crate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="rocrate is not installed"):
        crate.write(results, tmp_path / "crate")


def test_the_command(results, tmp_path):
    pytest.importorskip("rocrate")
    folder = tmp_path / "made"
    assert crate.main(["write", str(folder), "--results", str(results)]).startswith("3 files in ")
    assert crate.main(["check", str(folder)]) == "3 files are as the crate says"


@pytest.fixture
def context(monkeypatch):
    """The definitions of RO-Crate from rocrate's copy of them, as tests have no network."""
    requests = pytest.importorskip("requests")
    urllib3 = pytest.importorskip("urllib3")
    content = importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()

    def send(self, request, **options):
        if "w3id.org/ro/crate" not in request.url:
            raise requests.ConnectionError(request.url)
        raw = urllib3.HTTPResponse(
            io.BytesIO(content), {"Content-Type": "application/ld+json"}, 200, preload_content=False
        )
        return self.build_response(request, raw)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)


@pytest.mark.filterwarnings("default")
def test_the_validator_has_no_objection(written, context):
    validator = pytest.importorskip(
        "rocrate_validator", reason="tox -e crate installs roc-validator, which pins an old rich"
    )
    services = pytest.importorskip("rocrate_validator.services")
    models = pytest.importorskip("rocrate_validator.models")
    assert validator

    def issues(folder):
        how = services.ValidationSettings(
            rocrate_uri=str(folder), profile_identifier="ro-crate",
            requirement_severity=models.Severity.REQUIRED,
        )  # fmt: skip
        return services.validate(how).has_issues()

    assert not issues(written)
    broken = written.with_name("broken")
    shutil.copytree(written, broken)
    (broken / "results/README.md").unlink()
    assert issues(broken)
