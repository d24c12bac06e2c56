"""The panel: its cells, its verdicts from planted records, and its table."""

import dataclasses
import importlib
import os
from pathlib import Path

import pytest

from paper_tables import paper
from paper_tables.engine.cells import Settings
from paper_tables.engine.claims import judge
from paper_tables.engine.exhibit import MissingError
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.records import Record
from paper_tables.exhibits.panel import EXHIBIT, cells, claims, tables
from paper_tables.measure import spectra

ROOT = os.environ.get("LLA_DATA")
ROWS = [member.row for member in cells.MEMBERS if member.data == "cifar10"]
ON_PHOTOGRAPHS = [member.row for member in cells.MEMBERS if member.data == "imagenet"]
FALLEN = {"kh1": 0.3, "kh05": 0.4, "re": 0.02, "negative_share": 0.05, "loss": 0.01}
RANDOM = {"kh1": 1.0, "kh05": 1.0, "re": 1.0, "negative_share": 0.5, "loss": 2.3}


def records(rows=ROWS, trained=FALLEN, stderr=0.01, **changes):
    """A record of each cell and metric; `changes` are values of trained networks by row."""
    return [
        Record(
            table="panel", row=row, column=f"{state}/{mode}", metric=metric,
            value={**values, **(changes.get(row, {}) if state == "pretrained" else {})}[metric],
            stderr=stderr if metric != "loss" else None, n=3 if metric != "loss" else None,
            stderr_kind="batches" if metric != "loss" else None, fidelity="replication", m=100,
            config={"m": 100, "init": "torch", "state": state, "mode": mode}, batches=3,
            batch_size=64, probes=1, seed=0,
        )
        for row in rows
        for state, values in (("random", RANDOM), ("pretrained", trained))
        for mode in cells.MODES
        for metric in values
    ]  # fmt: skip


def on_new_images(rows=ON_PHOTOGRAPHS, accuracy=(90.0, 70.0), kh05=(0.4, 0.8), re=(0.02, 0.2)):
    """Trained networks on their own photographs and on new ones; tuples are (own, new)."""
    values = {
        "pretrained/eval": {"kh1": 0.3, "kh05": kh05[0], "re": re[0]},
        "new images/eval": {"kh1": 0.4, "kh05": kh05[1], "re": re[1]},
        "accuracy": {"accuracy": accuracy[0]},
        "new images/accuracy": {"accuracy": accuracy[1]},
    }
    return [
        Record(
            table="panel", row=row, column=column, metric=metric, value=value,
            stderr=1.0 if metric == "accuracy" else 0.01, n=48 if metric == "accuracy" else 3,
            stderr_kind="examples" if metric == "accuracy" else "batches", fidelity="replication",
            m=None if metric == "accuracy" else 100, config={"init": "torch", "side": 224},
            batches=3, batch_size=16, probes=None if metric == "accuracy" else 1,
        )
        for row in rows
        for column, found in values.items()
        for metric, value in found.items()
    ]  # fmt: skip


def verdicts(found):
    return {
        j.claim.id: j for j in judge(found, [EXHIBIT]) if j.scope == claims.SCOPE
    }  # fmt: skip


def test_all_agree():
    found = verdicts(records())
    judged = {id: j for id, j in found.items() if j.verdict != "not_run"}
    assert {id: j.verdict for id, j in judged.items()} == {
        "H.sym": "holds", "H.pos": "holds", "T2.kh05": "holds", "T2.re": "holds",
        "T2.kh1": "fails",  # the paper says that it does not fall
    }  # fmt: skip
    assert {j.fidelity for j in judged.values()} == {"replication"}
    assert "3 of 3 networks, a share of 0.29 to 1.00: ResNet20 holds" in found["T2.kh05"].note


def test_one_that_disagrees_refutes_a_claim_about_every_network():
    found = verdicts(records(ResNet44={"kh05": 1.3}))
    assert found["T2.kh05"].verdict == "fails"
    assert "2 of 3 networks" in found["T2.kh05"].note
    assert "ResNet44 fails" in found["T2.kh05"].note
    assert found["T2.re"].verdict == "holds"


def test_errors_that_are_too_large_decide_nothing():
    found = verdicts(records(stderr=0.5))
    assert {j.verdict for j in found.values() if j.verdict != "not_run"} == {"undecided"}
    assert len([j for j in found.values() if j.verdict == "undecided"]) == 5


def test_what_does_not_fall():
    assert verdicts(records(trained={**FALLEN, "kh1": 0.99}))["T2.kh1"].verdict == "holds"


def test_two_networks_are_no_panel():
    found = verdicts(records(rows=ROWS[:2]))
    assert {j.verdict for j in found.values()} == {"not_run"}
    assert "2 of at least 3 networks" in found["T2.kh05"].note
    with pytest.raises(MissingError):
        claims.CLAIMS[next(iter(claims.CLAIMS))]([])


def test_new_images():
    found = verdicts(on_new_images())
    assert (found["T4.kh05"].verdict, found["T4.re"].verdict) == ("holds", "holds")
    assert "4 of 4 networks" in found["T4.re"].note
    fallen = verdicts(on_new_images(kh05=(0.8, 0.4), re=(0.2, 0.02)))
    assert (fallen["T4.kh05"].verdict, fallen["T4.re"].verdict) == ("fails", "fails")
    as_good = verdicts(on_new_images(accuracy=(80.0, 80.0)))
    assert as_good["T4.kh05"].verdict == "undecided", "the accuracy does not fall"
    as_good = verdicts(on_new_images(accuracy=(80.0, 80.0), kh05=(0.8, 0.4)))
    assert as_good["T4.kh05"].verdict == "undecided", "nor does K_H05 have to rise then"
    assert verdicts(on_new_images(ON_PHOTOGRAPHS[:2]))["T4.re"].verdict == "not_run"
    assert found["T2.kh05"].verdict == "not_run", "no random weights"


def test_accuracy_that_k_h05_orders():
    own = [
        r for i, row in enumerate(ON_PHOTOGRAPHS)
        for r in on_new_images([row], accuracy=(60.0 + i, 50.0), kh05=(0.9 - i / 10, 0.9))
    ]  # fmt: skip
    assert verdicts(own)["T2.noabs"].verdict == "fails"
    assert "of 4 networks -1.00" in verdicts(own)["T2.noabs"].note
    turned = [*own[:-9], *on_new_images(ON_PHOTOGRAPHS[-1:], (50.0, 40.0), (0.1, 0.9))]
    assert verdicts(turned)["T2.noabs"].verdict == "holds"
    three = [r for r in own if r.row != ON_PHOTOGRAPHS[0]]
    assert "3 of at least 4 networks" in verdicts(three)["T2.noabs"].note


def test_accuracy_counts_on_the_images_of_the_criteria_alone():
    own = [
        r for i, row in enumerate(ON_PHOTOGRAPHS)
        for r in on_new_images([row], accuracy=(60.0 + i, 50.0), kh05=(0.9 - i / 10, 0.9))
    ]  # fmt: skip
    others = [
        dataclasses.replace(r, value=100 - r.value, batch_sha256="ab" * 32)
        for r in own
        if r.column == "accuracy"
    ]
    assert verdicts([*others, *own])["T2.noabs"].verdict == "fails"
    three = [r for r in own if not (r.row == ON_PHOTOGRAPHS[0] and r.column == "accuracy")]
    assert verdicts([*others, *three])["T2.noabs"].verdict == "not_run"


def test_other_settings_of_which_a_part_was_computed_hide_nothing():
    whole = records(ResNet44={"kh05": 1.3})
    more = [
        dataclasses.replace(r, batch_size=128, value=1.0)
        for r in whole
        if (r.row, r.column, r.metric) == ("ResNet44", "random/train", "kh05")
    ]
    assert verdicts([*more, *whole])["T2.kh05"].verdict == "fails"


def test_every_scope_is_judged_once():
    stated = {claim.id for claim in paper.claims() if claims.SCOPE in claim.scopes}
    assert stated == {scope.claim for scope in claims.CLAIMS} | {"T1.none", "X.uniform"}


def test_cells_run_when_they_are_asked_for(tmp_path, monkeypatch):
    module = importlib.import_module("lla.models.pretrained")
    monkeypatch.setattr(module, "_folders_of", lambda package: [])
    settings = Settings(PROFILES["quick"], tmp_path, tmp_path, data_root=tmp_path)
    quick = cells.cells(settings)
    assert len(quick) == 5 * len(ROWS) + 7 * len(ON_PHOTOGRAPHS)
    assert {cell.reason for cell in quick} == {cells.SKIPPED}
    study = dataclasses.replace(settings, profile=adjusted(PROFILES["quick"], study=True))
    reasons = {cell.reason.partition(":")[0] for cell in cells.cells(study)}
    assert reasons == {"no weights", "no CIFAR-10", "no ImageNet"}, "nothing stands in for them"


@pytest.mark.skipif(not ROOT, reason="LLA_DATA names no data root")
def test_a_cell_on_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "IMAGES", {"cifar10": 4, "imagenet": 2})
    monkeypatch.setattr(cells, "STEPS", 3)
    profile = adjusted(PROFILES["quick"], study=True)
    settings = Settings(profile, tmp_path, tmp_path, data_root=Path(ROOT))
    by_name = {cell.name: cell for cell in cells.cells(settings)}
    for name in ("resnet20-random-train", "resnet20-pretrained-train"):
        found = by_name[name].compute(by_name[name], settings)
        assert [record.metric for record in found] == list(spectra.PLAIN)
        assert {record.fidelity for record in found} == {"replication"}
        assert found[0].n == cells.BATCHES["cifar10"]
    for name in ("resnet20-accuracy", "squeezenet-1.1-new-images-accuracy"):
        (found,) = by_name[name].compute(by_name[name], settings)
        assert (found.metric, found.fidelity, found.n) == (
            "accuracy", "replication", 24 if "resnet" in name else 6
        )  # fmt: skip
        assert found.value > 30


def test_the_table_has_a_line_for_each_cell():
    (table,) = tables.tables(records())
    assert [group.name for group in table.groups] == ROWS
    assert [line.name for line in table.groups[0].lines] == [
        "random/train", "random/eval", "pretrained/train", "pretrained/eval",
    ]  # fmt: skip
    assert table.groups[0].lines[2].entries[1].text == "0.400 ± 0.010"
    assert tables.tables([])[0].groups == ()


def test_accuracy_stands_beside_the_criteria():
    (table,) = tables.tables(on_new_images(ON_PHOTOGRAPHS[:1]))
    (group,) = table.groups
    assert group.settings == "ImageNet, 3 x 16"
    assert [line.name for line in group.lines] == ["pretrained/eval", "new images/eval"]
    assert [line.entries[-1].text for line in group.lines] == ["90.0 ± 1.0", "70.0 ± 1.0"]
