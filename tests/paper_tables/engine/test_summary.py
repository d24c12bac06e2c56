"""The sentences that open the report, the contradictions, and the table of costs."""

import dataclasses
import io

import pandas as pd
import pytest
from scipy import stats

from paper_tables import paper
from paper_tables.engine import summary
from paper_tables.engine.claims import Judgement
from paper_tables.engine.contradictions import contradictions
from paper_tables.engine.costs import costs
from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.contradictions import tables
from paper_tables.paper import Claim

SHA = "ab" * 32


def record(value=0.5, printed="0.17", stderr=0.01, n=4, row="lenet", verdict="differs", **facts):
    config = facts.pop("config", {"m": 100})
    return Record(
        table="table2", row=row, column="pretrained/eval", metric="kh05", value=value,
        stderr=stderr, n=n, stderr_kind="batches", paper_value=printed, verdict=verdict,
        fidelity="reduced", config=config, m=100, batches=4, probes=2, **facts,
    )  # fmt: skip


def test_distances_are_in_standard_errors_widened_for_few_samples():
    (found,) = contradictions([record()])
    widened = 0.01 * stats.t.ppf(0.975, 3) / stats.norm.ppf(0.975)
    assert found.errors == pytest.approx((0.5 - 0.17 - 0.005) / widened)
    (two,) = contradictions([record(n=2)])
    assert two.errors < found.errors / 3
    assert contradictions([record(n=1)]) == [], "one sample has no standard error"
    assert contradictions([record(value=0.19)]) == [], "within the interval"
    assert contradictions([record(n=None)])[0].errors == pytest.approx(32.5)


def test_only_values_that_differ_and_have_an_error_count():
    others = [
        record(verdict="close"), record(stderr=None, n=None), record(legacy=True),
        record(printed=None, verdict=None),
    ]  # fmt: skip
    assert contradictions(others) == []
    far, near = record(value=0.9), record(value=0.3, config={"m": 50})
    assert [each.record for each in contradictions([near, far])] == [far, near]
    (table,) = tables.tables([near, far])
    (group,) = table.groups
    texts = [[entry.text for entry in line.entries] for line in group.lines]
    assert [text[:2] for text in texts] == [["0.17", "0.900 ± 0.010"], ["0.17", "0.300 ± 0.010"]]
    assert float(texts[0][2]) > float(texts[1][2])
    page = pd.read_csv(io.StringIO(tables.pages([near, far])["contradictions.csv"]))
    assert list(page.value) == [0.9, 0.3]
    assert page.errors_apart.round(1).tolist() == [float(text[2]) for text in texts]


def judgement(verdict, id="a", scope="lenet", fidelity="reduced", note="", **facts):
    claim = Claim(id, "3", f"statement {id}", "", {"lenet": None, "vit": None})
    return Judgement(claim, scope, verdict, fidelity, note=note, **facts)


def along(epoch, metric="kh1", stderr=0.01, value=0.5, length=1000, fidelity="reduced"):
    """A record along a training."""
    config = {"epoch": epoch, "epochs": length, "training": {"seed": 0}, "m": 100}
    found = record(value, None, stderr, verdict=None, config=config)
    return dataclasses.replace(
        found, metric=metric, column="mnist-svhn/training", fidelity=fidelity
    )  # fmt: skip


def test_how_long_it_is_trained_is_told_by_the_two_epochs_that_differ_most():
    records = [
        along(0, value=0.98), along(1, value=0.46), along(46, value=0.5, stderr=0.1),
        along(464, value=0.106), along(1000, value=0.93, stderr=0.17),
        along(464, "loss", value=3e-6), along(1, "loss", value=0.115),
        along(5, value=9.0, length=80), along(7, value=0.01, fidelity="substitute"),
    ]  # fmt: skip
    (text,) = [t for t in summary.sentences([], records) if t.startswith("What changes")]
    assert text == (
        "What changes an outcome most: how long it is trained, K_H1 of LeNet "
        "(mnist-svhn/training) from 0.460 ± 0.010 (epoch 1, loss 0.1) to 0.106 ± 0.010 "
        "(epoch 464, loss 3e-06)."
    )
    alike = [along(1, value=0.46), along(464, value=0.47)]
    assert not any(t.startswith("What changes") for t in summary.sentences([], alike))


def test_the_sentences_say_what_judgements_and_records_say():
    judgements = [
        judgement("holds", "a"), judgement("not_run", "a", "vit", note="needs a GPU"),
        judgement("holds", "b", fidelity="paper"), judgement("fails", "b", "vit"),
        judgement("undecided", "c"), judgement("not_run", "c", "vit", note="no weights: get them"),
        judgement("fails", "other", work="another work"),
    ]  # fmt: skip
    records = [
        record(config={"m": 100, "batch_size": 512}, batch_size=512, value=0.6),
        record(config={"m": 100, "batch_size": 2048}, batch_size=2048, value=0.4),
        record(row="resnet18", value=0.3, printed="0.18"),
    ]
    tally, wherever, fails, distant, changes, untested = summary.sentences(judgements, records)
    assert "3 claims are judged in 6 scopes: 2 hold, 1 fail, 1 are undecided, and 2 could" in tally
    assert "Of the 4 verdicts 1 rests on the paper's own" in tally
    assert wherever.endswith(": statement a (a, 1 of 2 scopes).")
    assert fails == "Fails in these scopes, and not in others: statement b (b, ViT)."
    found = summary.sentences([each for each in judgements if each.verdict == "fails"], records)
    assert found[2] == "Fails in every scope that could be tested: statement b (b, ViT)."
    assert "K_H05 of LeNet (pretrained/eval), 0.17 printed, 0.600 ± 0.010 measured" in distant
    assert distant.index("LeNet") < distant.index("ResNet18"), "the farthest first, one a network"
    assert "from 0.600 ± 0.010 with 4 x 512 and 2 probes a batch to 0.400" in changes
    assert untested == (
        "2 scopes could not be tested. They need: a GPU (1), weights that are published but not "
        "here (1)."
    )


def test_without_records_there_is_little_to_say():
    assert len(summary.sentences([], [])) == 3


def test_costs_count_a_cell_once():
    facts = {"seconds": 90.0, "peak_memory": 2**30, "device": "cpu", "threads": 2}
    both = (
        record(**facts),
        record(value=0.1, config={"m": 60}, data=Source("mnist", SHA), **facts),
    )
    table = costs([judgement("holds", records=(*both, both[0])), judgement("fails", "b")])
    (group,) = table.groups
    assert group.name == paper.WORK
    (line,) = group.lines
    assert line.name == "a:lenet"
    assert [entry.text for entry in line.entries] == ["3.0", "1024", "mnist", "cpu, 2 threads"]
