import numpy as np
import pytest

from paper_tables.exhibits import find
from paper_tables.exhibits.generalization import loss_figures
from paper_tables.exhibits.resnet_study.cells import TABLE, VARIANTS
from paper_tables.exhibits.resnet_study.findings import PAPERS_SIZE
from tests.paper_tables import planted_runs


@pytest.fixture
def study(make_records):
    def records(**values):
        found = []
        for variant in VARIANTS:
            value = values.get(variant.name.replace(" ", "_"), 1.5)
            found += make_records(
                {"re": value}, variant.name, row="resnet18", table=TABLE, stderr=0.1,
                data="imagenet", config={"side": 64, "m": 25},
            )  # fmt: skip
        return found

    return records


def findings(records):
    return [finding for exhibit in find() for finding in exhibit.findings(records)]


def text_of(records, title):
    (found,) = [f.text for f in findings(records) if f.title.startswith(title)]
    return found


def test_nothing_that_was_tried_gives_the_papers_number(study, make_records):
    table2 = make_records({"re": 1.25}, "random/train", row="resnet18", data="imagenet")
    text = text_of([*study(one_class=4.0), *table2], "ResNet18 in train mode")
    assert "prints r_e = 451" in text
    assert "0.73 in eval mode" in text
    assert "The largest, 4.00 ± 0.10 (one class), is far from 451" in text
    assert "25 Lanczos steps" in text
    assert "which was the paper's in one setting" in text
    smaller = [r for r in study() if r.column != PAPERS_SIZE]
    text = text_of([*smaller, *table2], "ResNet18 in train mode")
    assert "The paper's own size (64 images, 224 pixels) is not computed yet" in text
    assert "In Table 2 itself: 2 x 512 pictures of None pixels, m = 100: 1.250 ± 0.010" in text


def test_a_setting_that_does_is_named(study):
    text = text_of(study(legacy_Lanczos=300.0), "ResNet18 in train mode")
    assert "'legacy Lanczos' comes within a factor of 3 of 451" in text


def test_a_ratio_above_one_is_explained(make_records):
    records = make_records({"kh1": 1.05}, row="squeezenet", data="imagenet", config={"side": 224})
    text = text_of(records, "K_H1 above 1")
    assert "SqueezeNet 1.050 ± 0.010 (printed 1.08; 2 x 512 pictures of 224 pixels" in text


def test_without_records_only_the_papers_own_numbers_are_discussed():
    (found,) = findings([])
    assert "for AlexNet, SqueezeNet and MobileNet, and does not for ResNet50 and ViT" in found.text
    assert "56 and 57 pictures" in found.text


def test_who_predicts_better_is_said():
    values = planted_runs.series(np.random.default_rng(0))
    text = text_of(planted_runs.run(values), "Does a criterion predict")
    assert "(LeNet, 1 run, 6 checkpoints [reduced]: tau of the loss on the new data" in text
    assert "**" not in text
    assert "[prediction.md](prediction.md)" in text


def test_what_a_long_training_makes_of_lenet_is_said():
    values = planted_runs.series(np.random.default_rng(0))
    values["training", "kh1"] = [0.9, 0.6, 0.4, 0.3, 0.19, 0.12, 0.5]  # the paper prints 0.18
    values["training", "kh05"] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.9]  # 0.17
    values["training", "re"] = [0.9, 0.1, 3e-2, 2e-2, 9e-3, 3e-4, 0.5]  # 3e-4
    short = planted_runs.run(values, epochs=range(7), training=1)
    text = text_of([*planted_runs.run(values), *short], "LeNet after training: how long")
    assert "After 50 epochs of LeNet on MNIST (loss 0.0009) [reduced]" in text
    assert "K_H1 0.500 ± 0.010, 0.18 printed; K_H05 0.900 ± 0.018, 0.17 printed" in text
    assert "K_H1 0.1900 ± 0.0038 at epoch 10 (loss 0.02), which agrees within two" in text
    assert "K_H05 0.4000 ± 0.0080 at epoch 20 (loss 0.005), which differs from it" in text
    assert "r_e (3.000 ± 0.060)e-4 at epoch 20 (loss 0.005), which agrees" in text
    (figure,) = [each.name for each in loss_figures.figures(planted_runs.run(values))]
    assert f"[{figure}](figures/{figure}.png) shows the criteria against the loss" in text


def test_a_training_that_is_not_measured_at_its_end_says_nothing_of_its_length():
    values = planted_runs.series(np.random.default_rng(0))
    records = planted_runs.run(values, length=100)
    assert not [f for f in findings(records) if f.title.startswith("LeNet after training")]
