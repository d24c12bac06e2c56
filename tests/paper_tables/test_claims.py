import pytest

from lla.records import Source
from paper_tables import claims
from paper_tables.cells import Cell

SHA = "ab" * 32


def make(value, stderr=0.001, n=4, column="random/eval", metric="kh1", **changes):
    changes = {"init": "torch", "legacy": False, "fidelity": "reduced", "data": "mnist"} | changes
    cell = Cell(
        table="hesd" if column.startswith("during") else "table2",
        row="lenet",
        column=column,
        name="",
        metrics=(metric,),
        config={
            "m": 100,
            "probes": 3,
            "batches": n,
            "batch_size": changes.pop("batch_size", 512),
            "seed": 0,
            "dtype": "float32",
            "init": changes.pop("init"),
            "legacy": changes.pop("legacy"),
        },
        fidelity=changes.pop("fidelity"),
        inputs="",
    )
    data = Source(changes.pop("data"), SHA)
    return cell.record(metric, value, stderr, n=n, data=data, stderr_kind="batches")


def lenet(**changes):
    """All LeNet records of one setting, as the paper says they should be."""
    records = []
    for mode in ("train", "eval"):
        for init in ("torch", "uniform"):
            for metric in ("kh1", "kh05", "re"):
                records.append(make(0.98, column=f"random/{mode}", metric=metric, init=init))
        for metric, value in (("kh1", 0.2), ("kh05", 0.2), ("re", 4e-4), ("negative_share", 0.05)):
            stderr = value / 20
            records.append(make(value, stderr, column=f"pretrained/{mode}", metric=metric))
        records.append(make(0.01, None, column=f"pretrained/{mode}", metric="loss"))
        records.append(make(0.49, column=f"random/{mode}", metric="negative_share"))
    records.append(make(0.2, 0.01, column="during/eval", metric="negative_share"))
    if changes:
        records = [
            make(r.value, r.stderr, 4, r.column, r.metric, init=r.config["init"], **changes)
            for r in records
        ]
    return records


def judged(records, claim, scope="lenet"):
    (found,) = [
        j for j in claims.judge(records) if (j.claim.id, j.scope) == (claim, scope)
    ]  # fmt: skip
    return found


def replaced(records, value, stderr=0.001, **where):
    """The records with the value of those at a place changed."""

    def hit(record):
        return all(
            getattr(record, name, None) == wanted or record.config.get(name) == wanted
            for name, wanted in where.items()
        )

    assert any(map(hit, records))
    return [
        make(value, stderr, 4, r.column, r.metric, init=r.config["init"]) if hit(r) else r
        for r in records
    ]


# 95 %: t with 3 degrees of freedom is 3.182, with 1 it is 12.71
@pytest.mark.parametrize(
    ("value", "stderr", "n", "expected"),
    [
        (1.0, 0.01, 4, "holds"),
        (0.85, 0.01, 4, "holds"),  # 0.85 * exp(-0.0374) = 0.819
        (0.85, 0.01, 2, "undecided"),  # the same bar from two batches: 0.732
        (0.82, 0.01, 4, "undecided"),
        (0.78, 0.001, 4, "fails"),
        (1.3, 0.001, 4, "fails"),
        (1.3, 0.1, 4, "undecided"),
        (1.24, 0.0, 4, "holds"),
        (0.0, 0.01, 4, "fails"),
        (0.0, 0.5, 4, "undecided"),
        (1.0, None, 4, "undecided"),
        (1.0, 0.01, 1, "undecided"),
    ],
)
def test_near_one(value, stderr, n, expected):
    assert claims.near_one(make(value, stderr, n)) == expected


def test_near_one_takes_its_margin():
    assert claims.near_one(make(0.85), margin=(0.9, 1 / 0.9)) == "fails"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1.0, 0.01, 4), (0.9, 0.01, 4), "holds"),  # 0.1 against 2.447 * 0.0141 = 0.035
        ((0.9, 0.01, 4), (1.0, 0.01, 4), "fails"),
        ((1.0, 0.01, 4), (0.97, 0.01, 4), "undecided"),
        ((1.0, 0.01, 2), (0.95, 0.01, 2), "undecided"),  # 4.303 * 0.0141 = 0.061
        ((1.0, None, 4), (0.5, 0.01, 4), "undecided"),
        ((1.0, 0.0, 4), (0.5, 0.0, 4), "holds"),
    ],
)
def test_falls(first, second, expected):
    assert claims.falls(make(*first), make(*second)) == expected


def test_many_batches_come_to_1_96():
    wide = make(1.0, 1.0, 10_000)
    assert claims.below(wide, 2.97) == "holds"
    assert claims.below(wide, 2.95) == "undecided"
    assert claims.below(wide, -0.97) == "fails"


ALL = ("H.sym", "H.pos", "H.train", "T2.kh05", "T2.kh1", "T2.re")


@pytest.mark.parametrize("claim", ALL)
def test_claims_hold_on_the_papers_picture(claim):
    found = judged(lenet(), claim)
    assert (found.verdict, found.fidelity) == ("holds", "reduced")
    assert found.cells


@pytest.mark.parametrize(
    ("claim", "where", "value"),
    [
        ("H.sym", {"column": "random/train", "metric": "re", "init": "torch"}, 0.5),
        ("H.pos", {"column": "pretrained/eval", "metric": "negative_share"}, 0.3),
        ("H.train", {"column": "during/eval", "metric": "negative_share"}, 0.6),
        ("T2.kh05", {"column": "pretrained/eval", "metric": "kh05"}, 1.2),
        ("T2.kh1", {"column": "pretrained/train", "metric": "kh1"}, 1.2),
        ("T2.re", {"column": "random/train", "metric": "re", "init": "torch"}, 1e-4),
    ],
)
def test_claims_fail_and_stay_undecided(claim, where, value):
    assert judged(replaced(lenet(), value, 1e-6, **where), claim).verdict == "fails"
    assert judged(replaced(lenet(), value, 1.0, **where), claim).verdict == "undecided"


def test_the_uniform_initialisation_is_judged_by_itself():
    where = {"column": "random/eval", "metric": "kh1", "init": "uniform"}
    records = replaced(lenet(), 0.3, **where)
    assert judged(records, "H.sym").verdict == "holds"
    assert judged(records, "H.sym", "lenet, uniform init").verdict == "fails"


def test_a_network_not_trained_to_low_loss_decides_nothing():
    records = replaced(lenet(), 0.7, None, column="pretrained/eval", metric="loss")
    found = judged(records, "H.pos")
    assert found.verdict == "undecided"
    assert "not low" in found.note


def test_every_cell_of_table_2():
    paper = []
    for column, triple in {
        "random/train": (0.99, 0.95, 0.88),
        "pretrained/train": (0.37, 0.23, 5e-4),
        "random/eval": (0.98, 0.98, 0.8),
        "pretrained/eval": (0.18, 0.17, 3e-4),
    }.items():
        for metric, value in zip(("kh1", "kh05", "re"), triple, strict=True):
            paper.append(make(value, 1e-6, column=column, metric=metric))
    found = judged(paper, "T2.cell")
    assert found.verdict == "holds"
    assert "12 reproduced of 12" in found.note
    changed = replaced(paper, 0.9, 1e-6, column="pretrained/eval", metric="kh1")
    changed.append(make(0.18, column="pretrained/eval", metric="kh1", legacy=True))
    found = judged(changed, "T2.cell")
    assert found.verdict == "fails"
    assert "differs: pretrained/eval K_H1" in found.note
    assert "legacy: 1 reproduced of 1" in found.note


@pytest.mark.parametrize("claim", [*ALL, "T2.cell"])
def test_missing_cells_are_said(claim):
    assert judged([], claim).verdict == "not_run"
    some = [r for r in lenet() if r.column != "pretrained/eval"]
    found = judged([r for r in some if r.column != "random/train"], claim)
    assert found.verdict == "not_run"
    assert "not computed yet" in found.note


def test_stand_ins_decide_nothing():
    found = judged(lenet(fidelity="substitute", data="digits"), "T2.kh1")
    assert (found.verdict, found.fidelity) == ("not_run", "substitute")
    assert "stand-in" in found.note
    assert "'holds'" in found.note


def test_the_most_faithful_complete_settings_decide():
    stand_in = lenet(fidelity="substitute", data="digits")
    faithful = replaced(lenet(), 1.2, 1e-6, column="pretrained/eval", metric="kh1")
    assert judged([*stand_in, *faithful], "T2.kh1").verdict == "fails"
    incomplete = [make(0.98, column="random/eval", fidelity="paper", batch_size=2048)]
    found = judged([*incomplete, *lenet()], "T2.kh1")
    assert (found.verdict, found.fidelity) == ("holds", "reduced")


def test_settings_are_never_mixed():
    random = [r for r in lenet() if r.column.startswith("random")]
    trained = [r for r in lenet(batch_size=2048) if r.column.startswith("pretrained")]
    assert judged([*random, *trained], "T2.kh1").verdict == "not_run"


def test_legacy_records_decide_nothing():
    legacy = [make(5.0, 1e-6, column="pretrained/eval", metric="kh1", legacy=True)]
    assert judged([*legacy, *lenet()], "T2.kh1").verdict == "holds"


def test_every_claim_gets_a_line_and_the_rest_a_reason(tmp_path):
    found = claims.judge([])
    assert len({j.claim.id for j in found}) == 37
    assert all(j.verdict == "not_run" and j.note for j in found)
    claims.write(lenet(), tmp_path)
    text = (tmp_path / "claims.md").read_text()
    assert "| T2.kh1 " in text
    assert "| G.noabs " in text
    lines = (tmp_path / "claims.csv").read_text().splitlines()
    assert len(lines) == 1 + len(found)
