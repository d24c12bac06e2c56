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
    far, near = record(value=0.9), dataclasses.replace(record(value=0.3), column="pretrained/train")
    assert [each.record for each in contradictions([near, far])] == [far, near]
    (table,) = tables.tables([near, far])
    (group,) = table.groups
    texts = [[entry.text for entry in line.entries] for line in group.lines]
    assert [text[:2] for text in texts] == [["0.17", "0.900 ± 0.010"], ["0.17", "0.300 ± 0.010"]]
    assert float(texts[0][2]) > float(texts[1][2])
    page = pd.read_csv(io.StringIO(tables.pages([near, far])["contradictions.csv"]))
    assert list(page.value) == [0.9, 0.3]
    assert page.errors_apart.round(1).tolist() == [float(text[2]) for text in texts]


def test_the_best_measurement_of_a_value_is_compared():
    def of(batches, stderr, value=0.4, **facts):
        found = record(value, stderr=stderr, n=batches, **facts)
        return dataclasses.replace(found, batches=batches)

    lucky, more = of(2, 1e-4), of(4, 0.02)
    assert [each.record for each in contradictions([lucky, more])] == [more]
    larger = dataclasses.replace(more, value=0.45, batch_size=2048)
    assert [each.record for each in contradictions([more, larger, lucky])] == [larger]
    exact = dataclasses.replace(of(2, 0.01), fidelity="paper")
    assert [each.record for each in contradictions([larger, exact])] == [exact]
    agrees = dataclasses.replace(exact, value=0.171, verdict="reproduced")
    assert contradictions([larger, agrees]) == [], "the best one agrees"
    uniform = of(4, 0.02, config={"init": "uniform"})
    assert len(contradictions([more, uniform])) == 2, "another initialisation is another network"
    (shown,) = [p for p in summary.points([], [lucky, more]) if p.text.startswith("Printed")]
    assert shown.items == (
        "K_H05 of LeNet (pretrained/eval): 0.17 printed, 0.400 ± 0.020 measured on 4 batches of "
        "None [reduced], 6.93 standard errors apart",
    )


def judgement(verdict, id="a", scope="lenet", fidelity="reduced", note="", where="3", **facts):
    claim = Claim(id, where, f"statement {id}", "", {"lenet": None, "vit": None})
    return Judgement(claim, scope, verdict, fidelity, note=note, **facts)


def along(epoch, metric="kh1", stderr=0.01, value=0.5, length=1000, fidelity="reduced"):
    """A record along a training."""
    config = {"epoch": epoch, "epochs": length, "training": {"seed": 0}, "m": 100}
    found = record(value, None, stderr, verdict=None, config=config)
    return dataclasses.replace(
        found, metric=metric, column="mnist-svhn/training", fidelity=fidelity
    )  # fmt: skip


def moved(records):
    """What the summary says of how long it is trained."""
    found = [p for p in summary.points([], records) if p.text.startswith("What moves")]
    return [item for p in found for item in p.items if item.startswith("how long")]


def test_a_training_is_told_by_its_first_lowest_and_last_epoch():
    records = [
        along(0, value=0.98), along(1, value=0.46), along(46, value=0.5, stderr=0.1),
        along(464, value=0.106), along(1000, value=0.93, stderr=0.17),
        along(464, "loss", value=3e-6), along(1, "loss", value=0.115),
        along(1, value=9.0, length=80), along(80, value=0.01, length=80),
        along(7, value=0.01, fidelity="substitute"),
    ]  # fmt: skip
    assert moved(records) == [
        "how long it is trained: K_H1 of LeNet (mnist-svhn/training) is first 0.460 ± 0.010 "
        "(epoch 1, loss 0.1), lowest 0.106 ± 0.010 (epoch 464, loss 3e-06), last 0.93 ± 0.17 "
        "(epoch 1000)"
    ]
    (falls,) = moved([along(1, value=0.46), along(464, value=0.106)])
    assert falls.endswith(
        "first 0.460 ± 0.010 (epoch 1), lowest and last 0.106 ± 0.010 (epoch 464)"
    )
    assert moved([along(1, value=0.46), along(464, value=0.47)]) == []


def test_the_sentences_say_what_judgements_and_records_say():
    judgements = [
        judgement("holds", "a"), judgement("not_run", "a", "vit", note="needs a GPU"),
        judgement("holds", "b", fidelity="paper"), judgement("undecided", "b", "resnet18"),
        judgement("fails", "b", "vit", note="1.2 ± 0.1 of 2; and more; " + "left out " * 40),
        judgement("undecided", "c"), judgement("not_run", "c", "vit", note="no weights: get them"),
        judgement("not_run", "d", note="a stand-in"), judgement("holds", "e"),
        judgement("undecided", "e", "vit", fidelity="paper"),
        judgement("holds", "f", where="ours, on 2"),
        judgement("fails", "other", work="another work"),
    ]  # fmt: skip
    records = [
        record(config={"m": 100, "batch_size": 512}, batch_size=512, value=0.6),
        record(config={"m": 100, "batch_size": 2048}, batch_size=2048, value=0.4),
        record(row="resnet18", value=0.3, printed="0.18"),
    ]
    tally, held, partly, fails, undecided, distant, changes, untested = summary.points(
        judgements, records
    )
    assert tally.text.startswith(
        "5 claims of the paper, and 1 of ours on it (f), are judged in 11 scopes: 4 hold, 1 fail, "
        "3 are undecided, and 3 could not be tested. Of the 8 verdicts 2 rest on the paper's own "
        "model, data and settings (1 decided, 1 undecided), the"
    )
    assert held.items == (
        "statement a (a): 1 of 2 scopes tested", "statement f (f): 1 of 1 scopes tested",
    )  # fmt: skip
    assert partly.items == ("statement e (e). Holds for LeNet. Undecided for ViT.",)
    assert fails.text == "Fails in some scopes:"
    assert fails.items == (
        "statement b (b). Fails for ViT: 1.2 ± 0.1 of 2; and more. Holds for LeNet. Undecided for "
        "ResNet18.",
    )
    assert undecided.items == ("statement c (c): 1 of 2 scopes tested",)
    found = summary.points([each for each in judgements if each.verdict == "fails"], records)
    assert found[2].text == "Fails in every scope that could be tested:"
    assert found[2].items == ("statement b (b). Fails for ViT: 1.2 ± 0.1 of 2; and more.",)
    assert "in standard errors" in distant.text
    assert distant.items[0].startswith("K_H05 of LeNet (pretrained/eval): 0.17 printed, 0.400 ± ")
    assert "ResNet18" in distant.items[1], "the farthest first, one a network"
    assert changes.items == (
        "the number of examples and of probes: K_H05 of LeNet (pretrained/eval) from 0.600 ± 0.010 "
        "with 4 x 512 and 2 probes a batch to 0.400 ± 0.010 with 4 x 2048 and 2 probes a batch",
    )
    assert untested.text == (
        "3 scopes could not be tested. They need: a GPU (1), weights that are published but not "
        "here (1), data in place of stand-ins (1). Tested in no scope:"
    )
    assert untested.items == ("statement d (d)",)


def test_a_reason_ends_with_a_whole_part():
    assert summary.reason("") == ""
    assert summary.reason("one; two") == "one; two"
    assert summary.reason("one; " + "t" * 300) == "one"
    long = summary.reason("t" * 300 + "; two")
    assert (len(long), long[-3:]) == (summary.REASON, "t …")


def test_without_records_there_is_little_to_say():
    assert len(summary.points([], [])) == 3


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
