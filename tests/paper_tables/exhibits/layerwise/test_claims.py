import pytest

from paper_tables.engine import claims
from paper_tables.engine.cells import Cell
from paper_tables.exhibits import find
from paper_tables.exhibits.layerwise import blocks, findings, fixed, mlps, tables

LAYERS = ("fc1", "fc2", "fc3")
VALUES = {
    "overlap": 0.4, "random": 0.005, "eigenvalue": 3.0, "rank_one": 0.8, "mean_cosine": 0.9,
    "kronecker_overlap": 0.7, "frobenius_error": 0.3, "outliers": 9.0, "outlier_gap": 4.0,
    "top_share": 0.95, "xx_ratio": 1.05,
}  # fmt: skip


def records_of(row="mnist-mlp", column="raw", *, stderr=0.01, n=3, fidelity="reduced", **values):
    """The records of one cell; a value is that of every layer, or is given by layer."""
    found = VALUES | values
    numbers = {
        f"{name} {layer}": value.get(layer, VALUES[name]) if isinstance(value, dict) else value
        for name, value in found.items()
        for layer in LAYERS
    }
    cell = Cell(
        mlps.TABLE, row, column, "", tuple(numbers), {"images": 8, "k": 9, "column": column},
        fidelity, "",
    )  # fmt: skip
    return [
        cell.record(name, value, None if name.startswith("random") else stderr, n=n)
        for name, value in numbers.items()
    ]


def share_of(row, column, value, stderr=0.01):
    cell = Cell(blocks.TABLE, row, column, "", ("share",), {"images": 8}, "reduced", "")
    return [cell.record("share", value, stderr, n=16, stderr_kind="probes")]


def judged(records, claim, scope="mnist-mlp"):
    (found,) = [j for j in claims.judge(records, find()) if (j.claim.id, j.scope) == (claim, scope)]
    return found


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ("overlap", {}, "holds"),
        ("overlap", {"overlap": 0.01, "stderr": 0.001}, "fails"),
        ("overlap", {"stderr": 0.2}, "undecided"),
        ("rank_one", {}, "holds"),
        ("rank_one", {"rank_one": {"fc3": 0.6}}, "fails"),
        ("rank_one", {"rank_one": {"fc3": 0.71}}, "undecided"),
        ("kronecker", {}, "holds"),
        ("kronecker", {"kronecker_overlap": {"fc2": 0.4}}, "fails"),
        ("outliers", {}, "holds"),
        ("outliers", {"outliers": {"fc1": 20.0}}, "fails"),
        ("outliers", {"outliers": {"fc3": 20.0}}, "holds"),  # the last layer has C - 1 anyway
        ("outliers", {"stderr": 2.0}, "undecided"),
        ("mean_input", {}, "holds"),
        ("mean_input", {"xx_ratio": {"fc2": 1.6}}, "fails"),
    ],
)
def test_claims_on_one_kind_of_networks(claim, values, verdict):
    records = records_of(**values)
    assert judged(records, f"layerwise.{claim}").verdict == verdict
    assert judged([], f"layerwise.{claim}").verdict == "not_run"


@pytest.mark.parametrize(
    ("centred", "stderr", "verdict"),
    [(0.05, 0.001, "holds"), (0.2, 0.001, "fails"), (0.13, 0.02, "undecided")],
)
def test_overlap_falls_when_inputs_are_centred(centred, stderr, verdict):
    other = records_of(column=mlps.CENTRED.column, overlap=centred, stderr=stderr)
    found = judged([*records_of(stderr=0.005), *other], "layerwise.centred")
    assert found.verdict == verdict
    assert f"{0.4 / centred:.2g} times smaller" in found.note


@pytest.mark.parametrize(
    ("second", "third", "verdict"),
    [(0.4, 0.3, "holds"), (0.4, 0.9, "fails"), (0.4, 0.7, "undecided")],
)
def test_batchnorm_lowers_the_kronecker_overlap_from_layer_2_on(second, third, verdict):
    values = {"fc1": 0.9, "fc2": second, "fc3": third}
    other = records_of(column=mlps.BATCHNORM.column, kronecker_overlap=values)
    assert judged([*records_of(), *other], "layerwise.batchnorm").verdict == verdict


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.7, "holds"), (0.3, "fails"), (0.51, "undecided")]
)
def test_shares_off_the_blocks(share, verdict):
    records = share_of("resnet20", "trained", share)
    found = judged(records, "layerwise.off_blocks", "resnet20")
    assert found.verdict == verdict
    assert f"{share**2:.2g} of its square" in found.note
    (finding,) = findings.findings(records)
    large = "for 0 of" if share < 0.5 else "for 1 of"
    assert large in finding.text


def test_stand_ins_are_never_judged():
    found = judged(
        records_of("digits-mlp", fidelity="substitute"), "layerwise.overlap", "digits-mlp"
    )
    assert (found.verdict, "it would be 'holds'" in found.note) == ("not_run", True)


def test_the_bound_is_not_run_and_says_why():
    found = judged([], "layerwise.pac_bayes", "all")
    assert found.verdict == "not_run"
    assert "optimised posterior" in found.note


def test_one_network_is_judged_over_batches():
    found = judged(records_of("lenet", fixed.COLUMN), "layerwise.rank_one", "lenet")
    assert found.verdict == "holds"
    assert "3 of 3 layers above 0.7; fc1 0.800 ± 0.010" in found.note


def test_tables_show_every_layer_with_its_baseline():
    records = [
        *records_of(),
        *records_of("lenet", fixed.COLUMN),
        *share_of("lenet", "trained", 0.7),
    ]
    perceptrons, networks, shares = tables.tables(records)
    (group,) = perceptrons.groups
    assert group.name == "MLP on MNIST, raw"
    assert [line.name for line in group.lines] == list(LAYERS)
    texts = [entry.text for entry in group.lines[0].entries]
    assert texts[:3] == ["0.400 ± 0.010", "80.0 ± 2.0", "0.800 ± 0.010"]
    assert networks.groups[0].name == "LeNet"
    assert [e.text for e in shares.groups[0].lines[0].entries] == ["0.700 ± 0.010", "0.490 ± 0.014"]


def test_the_finding_tells_what_centring_does():
    records = [
        *records_of(),
        *records_of(column=mlps.CENTRED.column, overlap=0.1),
        *records_of(column=mlps.MOVED.column, overlap=0.08),
    ]
    (finding,) = findings.findings(records)
    assert "MLP on MNIST [reduced] it is 0.400 ± 0.010 (80 times random)" in finding.text
    assert "0.100 ± 0.010, 4 times smaller" in finding.text
