import numpy as np

from lla.report.text import measured
from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.generalization import tables as run_table
from tests.paper_tables import planted_runs


def test_a_run_has_a_line_for_every_epoch_with_criteria():
    values = planted_runs.series(np.random.default_rng(0))
    values["training", "kh05"] = [None, *values["training", "kh05"][1:]]
    for side, metric in (("training", "kh1"), ("training", "re"), ("generalization", "kh05"),
                         ("generalization", "kh1"), ("generalization", "re")):  # fmt: skip
        values[side, metric] = [None, None, *values[side, metric][2:]]
    records = planted_runs.run(values)
    (found,) = run_table.tables(records)
    (group,) = found.groups
    assert (group.name, group.settings, group.fidelity) == (
        "LeNet, MNIST to SVHN",
        "50 epochs",
        "reduced",
    )
    assert [line.name for line in group.lines] == [
        f"epoch {epoch}" for epoch in planted_runs.EPOCHS[1:]
    ]
    columns = dict(zip(found.columns, group.lines[-1].entries, strict=True))
    loss = next(r for r in records if (r.metric, r.config["epoch"]) == ("loss", 50))
    assert columns["loss, training"].text == measured(loss.value, loss.stderr)
    assert group.lines[0].entries[found.columns.index("K_H05, other")] is None
    assert found.files == ("generalization.csv",)


def test_planes_say_what_their_heights_mean_and_how_many_images():
    record = Record(
        table="shift_planes", row="lenet", column="mnist-svhn", metric="median_training", value=0.1,
        fidelity="reduced", data=Source("mnist", "ab" * 32), config={}, batch_size=512, seed=0,
    )  # fmt: skip
    _, planes = run_table.tables([record])
    assert planes.groups[0].settings.startswith("MNIST 512 images")
    for word in ("*median loss*", "*Roughness*", "*change*"):
        assert word in planes.legend


def test_without_runs_it_is_left_out():
    assert run_table.tables([])[0].groups == ()
