"""Claims on the command line, over an exhibit whose cells need no network."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from lla.errors import InputError
from paper_tables import verify
from paper_tables.engine import answer, claims, machine, store
from paper_tables.engine.cells import Cell
from paper_tables.engine.exhibit import ClaimScope, Decision, Exhibit, MissingError
from paper_tables.engine.suite import checkout
from paper_tables.exhibits import find
from paper_tables.paper import Claim

SCOPES = {"large": None, "small one": None, "never": "no such data: fetch it", "lost": None}


def decide(records, row):
    mine = tuple(r for r in records if (r.table, r.row) == ("table9", row) and r.value is not None)
    if not mine:
        raise MissingError(f"no value of {row}")
    if not 0 < mine[0].value < 1:
        return Decision("undecided", mine, "out of range")
    return Decision("holds" if mine[0].value > 0.5 else "fails", mine, f"value {mine[0].value}")


@pytest.fixture
def runs():
    """How often each cell was computed; and what the cells give."""
    return {"calls": [], "large": 0.9, "small one": 0.1, "fidelity": "paper", "error": None}


@pytest.fixture
def toy(runs):
    """An exhibit with a claim of its own."""

    def compute(cell, settings):
        runs["calls"].append(cell.row)
        if runs["error"]:
            raise runs["error"]
        return [cell.record("share", runs[cell.row], 0.01)]

    def cells(settings):
        facts = {"table": "table9", "column": "all", "metrics": ("share",), "inputs": ""}
        facts["config"] = {"m": 1}
        made = [
            Cell(row=row, name=row, fidelity=runs["fidelity"], compute=compute, **facts)
            for row in ("large", "small one")
        ]
        lost = Cell(row="lost", name="lost", fidelity=None, reason="no weights: get them", **facts)
        return [*made, lost]

    scopes = ("large", "small one", "lost")
    rules = {ClaimScope("toy.large", s): lambda found, s=s: decide(found, s) for s in scopes}
    claim = Claim("toy.large", "1", "It is large.", "a number", SCOPES)
    return Exhibit("toy", "a test", cells, sources=("table9",), statements=(claim,), claims=rules)


@pytest.fixture
def command(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "find", lambda: [toy])
    monkeypatch.setattr(verify, "checkout", lambda: tmp_path)
    (tmp_path / "results" / "records").mkdir(parents=True)

    def run(*words):
        return CliRunner().invoke(verify.app, [str(word) for word in words])

    return run


@pytest.mark.parametrize(
    ("name", "code", "verdict"),
    [("toy.large:large", 0, "holds"), ("toy.large:small-one", 1, "fails"),
     ("toy.large:never", 4, "not_run"), ("toy.large:lost", 4, "not_run"),
     ("toy.large", 1, "fails")],
)  # fmt: skip
def test_the_exit_code_is_the_verdict(command, name, code, verdict):
    found = command("verify", name, "--json")
    assert found.exit_code == code, found.output
    answers = json.loads(found.stdout)
    assert verdict in {each["verdict"] for each in answers}
    assert len(answers) == (4 if ":" not in name else 1)


def test_undecided_lies_between(command, runs):
    runs["large"], runs["small one"] = 2.0, 0.7
    assert command("verify", "toy.large:large").exit_code == 3
    assert command("verify", "toy.large").exit_code == 3, "undecided before holds"


def test_what_did_not_run_says_what_to_do(command, runs):
    assert "no such data: fetch it" in command("verify", "toy.large:never").stdout
    assert "no weights: get them" in command("verify", "toy.large:lost").stdout
    runs["fidelity"] = "substitute"
    found = command("verify", "toy.large:large")
    assert found.exit_code == 4
    assert "computed with a stand-in" in found.stdout
    assert "it would be 'holds'" in found.stdout


def test_only_what_the_claim_needs_is_computed_and_only_once(command, runs, monkeypatch, tmp_path):
    for _ in range(2):
        assert command("verify", "toy.large:large").exit_code == 0
    assert runs["calls"] == ["large"]
    monkeypatch.setattr(machine, "code_version", lambda: "0+other")
    runs["large"] = 0.2  # other code finds another value, and nothing of the old one counts
    assert command("verify", "toy.large:large").exit_code == 1
    assert runs["calls"] == ["large", "large"]
    assert not list((tmp_path / "results" / "records").iterdir()), (
        "published records are not touched"
    )


def test_a_cell_that_fails_is_no_verdict(command, runs):
    runs["error"] = InputError("the network is no network: give one")
    found = command("verify", "toy.large:large")
    assert found.exit_code == 4
    assert "it failed with InputError, 'the network is no network: give one'" in found.stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [("toy.larg", "did you mean 'toy.large'?"), ("", "choose from"),
     ("toy.large:larg", "did you mean 'toy.large:large'?"), ("toy.large:", "did you mean")],
)  # fmt: skip
def test_unknown_names_come_with_suggestions(command, name, hint):
    for word in ("verify", "show"):
        answer.write([], verify.checkout() / "results")
        found = command(word, name)
        assert isinstance(found.exception, InputError)
        assert hint in str(found.exception)


def test_an_unknown_profile(command):
    found = command("verify", "toy.large", "--profile", "papr")
    assert "did you mean 'paper'?" in str(found.exception)


def test_the_published_answer_is_listed_and_shown(command, toy, runs, tmp_path):
    results = tmp_path / "results"
    command("verify", "toy.large:large")
    for path in (tmp_path / ".lla" / "claims" / "results" / "records").iterdir():
        (results / "records" / path.name).write_bytes(path.read_bytes())
    answer.write(claims.judge(store.published(results), [toy]), results)
    listed = json.loads(command("list", "--json").stdout)
    assert {each["slug"]: each["verdict"] for each in listed}["toy.large:large"] == "holds"
    assert "toy.large:small-one" in command("list").stdout
    shown = command("show", "toy.large:large").stdout
    parts = (
        "toy.large:large: holds [paper]", "It is large.", "table9/large/all share: 0.9 ± 0.01",
        "again: lla claims verify toy.large:large", "cost: 0 minutes",
    )  # fmt: skip
    assert all(part in shown for part in parts), shown
    (one,) = json.loads(command("show", "toy.large:large", "--json").stdout)
    assert one["measured"] == 0.9
    assert one["stderr"] == 0.01
    assert len(one["evidence"]) == 1


def test_the_file_has_a_schema_with_a_version(toy, tmp_path):
    answer.write(claims.judge([], [toy]), tmp_path)
    content = json.loads((tmp_path / answer.FILE).read_text())
    assert content["version"] == answer.VERSION
    schema = json.loads((tmp_path / answer.SCHEMA).read_text())
    names = {field.name for field in dataclasses.fields(answer.Answer)}
    assert set(schema["$defs"]["Answer"]["properties"]) == names
    assert schema["properties"]["version"]["const"] == answer.VERSION
    ours = [each for each in answer.read(tmp_path).claims if each.claim == "toy.large"]
    assert [each.slug for each in ours] == [
        "toy.large:large", "toy.large:small-one", "toy.large:never", "toy.large:lost",
    ]  # fmt: skip
    for change in ({"version": 2}, {"claims": [{"slug": 1}]}):
        (tmp_path / answer.FILE).write_text(json.dumps(content | change))
        with pytest.raises(InputError, match=r"claims\.json: .*python -m paper_tables"):
            answer.read(tmp_path)


def test_published_claims_are_those_of_the_records():
    folder = checkout() / "results"
    judgements = claims.judge(store.published(folder), find())
    assert answer.read(folder) == answer.answers(judgements)
