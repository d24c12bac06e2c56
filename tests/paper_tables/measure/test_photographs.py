import csv
import dataclasses
import hashlib
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import lla
from lla import data, models
from lla.errors import MissingDataError
from lla.models.pretrained import WEIGHTS
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.table2 import cells as table2
from paper_tables.exhibits.table4 import cells as table4
from paper_tables.inputs import networks
from paper_tables.measure import photographs

TINY = adjusted(PROFILES["quick"], batches=2, images=2, side=32, probes=1, steps=3)


@pytest.fixture
def settings(without_data):
    """Tiny settings in a place without any data, so that the bundled crops stand in."""
    return without_data(TINY)


def cells_of(settings, row):
    return {cell.name: cell for cell in table2.cells(settings) if cell.row == row}


def run(settings, *cells):
    suite = Suite(find(), settings)
    found = [{r.metric: r for r in suite.run(cell)} for cell in cells]
    suite.finish()
    return found


def pictures_in(folder, count, seed):
    """Plant labelled pictures."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    lines = ["file,class_index"]
    for i in range(count):
        pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{int(generator.integers(1000))}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def weights_in(root, monkeypatch, name):
    """Plant weights of the right shape in place of the published ones."""
    known = WEIGHTS[name][0]
    path = root / "weights" / known.file
    path.parent.mkdir(exist_ok=True)
    model = models.build(name, 1000, seed=7)
    torch.save(
        {n: t.half() if t.is_floating_point() else t for n, t in model.state_dict().items()}, path
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(WEIGHTS, name, (dataclasses.replace(known, sha256=digest),))
    return model.half().float()


def test_a_cell_from_pictures_to_table(settings):
    before = torch.get_rng_state()
    cell = cells_of(settings, "squeezenet")["squeezenet-random-eval-torch-plain"]
    (found,) = run(settings, cell)
    assert torch.equal(torch.get_rng_state(), before)
    record = found["kh1"]
    assert (record.n, record.stderr_kind, record.m, record.matvecs) == (2, "batches", 3, 6)
    assert (record.fidelity, record.verdict, record.paper_value) == ("substitute", None, "1.08")
    assert record.data.name == "sample-crops"
    assert record.config["side"] == 32
    assert "K_H05 depends on m, here 3" in record.note
    spectrum = lla.Spectrum.load(settings.results / record.artifact.name)
    assert spectrum.eigenvalues.shape == (2, 3), "one probe for each of two batches"
    text = (settings.results / "table2.md").read_text()
    assert "squeezenet1_1, sample-crops 2 x 2 images at 32 px, m 3" in text


def test_the_value_is_that_of_the_library_on_the_very_pictures(settings):
    cell = cells_of(settings, "squeezenet")["squeezenet-random-train-torch-plain"]
    (found,) = run(settings, cell)
    with (settings.results / found["loss"].artifact.name).open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    pictures = data.load_pictures("sample-crops")
    batches = data.picture_batches(
        pictures, models.picture_preprocessing("squeezenet1_1", 32), 2, count=2, seed=0
    )
    assert [line["sha256"] for line in listed] == list(batches.files_sha256)
    assert [line["batch"] for line in listed] == ["0", "0", "1", "1"]
    labels = [label for _, y in batches.pairs for label in y.tolist()]
    assert [int(line["class_index"]) for line in listed] == labels
    model = models.build("squeezenet1_1", 1000, 0, "torch")
    expected = lla.criteria(model, batches.pairs, mode="train", probes=1, steps=3, route="fresh")
    assert found["re"].value == pytest.approx(expected.re.value, rel=1e-3)
    assert found["loss"].value == pytest.approx(expected.loss, rel=1e-6)
    assert found["re"].batch_sha256 == batches.sha256


def test_a_cell_computed_again_has_the_same_value_and_with_another_seed_one_within_its_error(
    settings, tmp_path
):
    def criteria(name, **changes):
        profile = adjusted(TINY, batches=4, steps=10, **changes)
        chosen = dataclasses.replace(settings, profile=profile, work=tmp_path / name)
        (found,) = run(chosen, cells_of(chosen, "squeezenet")["squeezenet-random-eval-torch-plain"])
        return found

    first, again, other = criteria("first"), criteria("again"), criteria("other", seed=1)
    assert other["kh1"].batch_sha256 != first["kh1"].batch_sha256 == again["kh1"].batch_sha256
    assert other["kh1"].weights == first["kh1"].weights
    for metric in ("kh1", "kh05", "re"):
        mine, theirs = first[metric], other[metric]
        assert again[metric].value == pytest.approx(mine.value, rel=1e-6)
        assert theirs.value != mine.value
        assert abs(theirs.value - mine.value) <= 3 * math.hypot(mine.stderr, theirs.stderr)


def test_equal_modes_are_computed_once_and_say_so(settings, monkeypatch):
    calls = []
    real = lla.criteria
    monkeypatch.setattr(lla, "criteria", lambda *a, **k: calls.append(k["mode"]) or real(*a, **k))
    cells = cells_of(settings, "vit")
    evaluated, trained = run(
        settings, cells["vit-random-eval-torch-plain"], cells["vit-random-train-torch-plain"]
    )
    assert calls == ["eval"]
    assert trained["re"].value == evaluated["re"].value
    assert "one function" in trained["re"].note
    assert trained["re"].artifact is None
    model = models.build("vit_tiny_patch16_224", seed=0, img_size=32)
    assert networks.modes_alike(model)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.train()(x), model.eval()(x))


def test_published_weights_are_taken_where_they_are(settings, monkeypatch):
    root = settings.data_root
    model = weights_in(root, monkeypatch, "resnet18")
    pictures_in(root / "imagenet", 6, seed=1)
    cells = cells_of(settings, "resnet18")
    found, accuracy = run(
        settings, cells["resnet18-pretrained-eval-plain"], cells["resnet18-accuracy"]
    )
    assert found["kh1"].weights.name == WEIGHTS["resnet18"][0].file
    assert (found["kh1"].fidelity, found["kh1"].paper_value) == ("reduced", "0.97")
    assert found["kh1"].verdict in ("reproduced", "close", "differs")
    assert found["kh05"].verdict is None, "3 steps are not the paper's 100"
    pictures = data.load_pictures("imagenet", root)
    batches = data.picture_batches(
        pictures, models.picture_preprocessing("resnet18", 32), 2, count=2, seed=0
    )
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(model.eval()(x), y).item() for x, y in batches.pairs
        ]
    assert found["loss"].value == pytest.approx(np.mean(losses), rel=1e-5)
    assert (accuracy["accuracy"].value, accuracy["accuracy"].n) == (0.0, 4)
    assert "mean of train and eval mode" in accuracy["accuracy"].note


@pytest.fixture
def offline(settings, monkeypatch):
    """Settings that download what is not found, on a machine without a network."""

    def fetch(name, weights):
        raise MissingDataError(f"no address could be downloaded ({name})", "/secret/folder")

    monkeypatch.setattr(sys.modules[models.pretrained.__module__], "_download", fetch)
    pictures_in(settings.data_root / "imagenet", 6, seed=1)
    return dataclasses.replace(settings, download=True)


def test_a_download_that_fails_is_a_reason(offline):
    cells = cells_of(offline, "resnet18")
    for found in run(offline, cells["resnet18-pretrained-eval-plain"], cells["resnet18-accuracy"]):
        assert {r.verdict for r in found.values()} == {"not_run"}
        assert {r.reason for r in found.values()} == {networks.NO_DOWNLOAD}


def test_weights_that_are_there_are_not_downloaded(offline, monkeypatch):
    known = WEIGHTS["squeezenet1_1"]
    weights_in(offline.data_root, monkeypatch, "squeezenet1_1")
    (planted,) = WEIGHTS["squeezenet1_1"]
    monkeypatch.setitem(WEIGHTS, "squeezenet1_1", (known[0], dataclasses.replace(
        planted, file="rounded.pth", fidelity="reduced")))  # fmt: skip
    folder = offline.data_root / "weights"
    (folder / planted.file).rename(folder / "rounded.pth")
    (found,) = run(offline, cells_of(offline, "squeezenet")["squeezenet-pretrained-eval-plain"])
    assert found["kh1"].weights.name == "rounded.pth"
    assert found["kh1"].value is not None


def test_table_4_compares_two_sets_of_pictures(settings, monkeypatch):
    root = settings.data_root
    weights_in(root, monkeypatch, "squeezenet1_1")
    pictures_in(root / "imagenet", 4, seed=1)
    pictures_in(root / "ni", 5, seed=2)
    cells = {cell.name: cell for cell in table4.cells(settings)}
    first, second = run(
        settings, cells["squeezenet-imagenet-eval-plain"], cells["squeezenet-ni-eval-plain"]
    )
    assert list(first) == [
        "accuracy",
        "kh1",
        "kh05",
        "re",
        "kh05_density",
        "negative_share",
        "loss",
    ]
    assert (first["kh1"].fidelity, second["kh1"].fidelity) == ("reduced", "substitute")
    assert (first["kh1"].data.name, second["kh1"].data.name) == ("imagenet", "ni")
    assert first["kh1"].batch_sha256 != second["kh1"].batch_sha256
    assert second["kh1"].verdict is None
    text = (settings.results / "table4.md").read_text()
    assert "ImageNet 2 x 2 images at 32 px and NI 2 x 2 images at 32 px" in text
    assert "1. no record yet" in text


def test_variants_are_asked_for(settings):
    def variants(profile):
        changed = dataclasses.replace(settings, profile=profile)
        return {name.split("-", 3)[3] for name in cells_of(changed, "resnet18") if "random" in name}

    assert variants(TINY) == {"torch-plain"}
    every = adjusted(TINY, variants=True)
    assert variants(every) == {"torch-plain", "uniform-plain", "torch-legacy"}
    assert PROFILES["paper"].criteria.variants
    left_out = cells_of(settings, "alexnet")["alexnet-random-train-torch-plain"]
    assert "--variants computes it" in left_out.reason
    assert left_out.metrics == ("kh1", "kh05", "re")
    whole = dataclasses.replace(settings, profile=every)
    assert cells_of(whole, "alexnet")["alexnet-random-train-torch-plain"].compute


def test_the_uniform_initialisation_is_another_network(settings):
    changed = dataclasses.replace(settings, profile=adjusted(TINY, variants=True))
    cells = cells_of(changed, "squeezenet")
    first, second = run(
        changed,
        cells["squeezenet-random-eval-torch-plain"],
        cells["squeezenet-random-eval-uniform-plain"],
    )
    assert first["kh1"].weights != second["kh1"].weights
    assert second["kh1"].weights.name == "squeezenet1_1, uniform init, seed 0"


def test_what_is_missing_is_said_without_a_path(settings):
    cells = {cell.name: cell for cell in table4.cells(settings)}
    for row in ("resnet50", "alexnet", "squeezenet", "mobilenet", "vit"):
        cell = cells[f"{row}-imagenet-eval-plain"]
        assert cell.reason.startswith("no weights: put ")
        assert cell.metrics == ("accuracy", "kh1", "kh05", "re")
        assert str(settings.data_root) not in cell.reason
    with pytest.raises(MissingDataError):
        networks.new_images(settings)


@pytest.mark.hard_use(
    "A spectrum of photographs with one probe, or with nine of ten, is not called the paper's"
)
def test_fidelity(settings, monkeypatch):
    net = networks.network(PROFILES["paper"], "resnet18")
    crops = networks.pictures(settings)
    monkeypatch.setattr(
        networks, "pictures", lambda settings: dataclasses.replace(crops, fidelity=pictures)
    )
    pictures = "paper"

    def fidelity(profile=PROFILES["paper"], net=net):
        chosen = dataclasses.replace(settings, profile=profile)
        case = photographs.Case(net, "random")
        return photographs.spectrum_cell(chosen, "table2", "random/eval", case).fidelity

    def changed(**changes):
        criteria = dataclasses.replace(PROFILES["paper"].criteria, **changes)
        return dataclasses.replace(PROFILES["paper"], criteria=criteria)

    assert fidelity() == "paper"
    assert fidelity(changed(batch_size=32)) == "reduced"
    assert fidelity(changed(steps=50)) == "reduced"
    assert fidelity(changed(side=192)) == "reduced"
    assert fidelity(changed(probes=20)) == "paper", "more probes narrow the error bar"
    assert fidelity(changed(probes=9)) == fidelity(changed(probes=1)) == "reduced"
    assert fidelity(PROFILES["quick"]) == "reduced"
    assert fidelity(net=dataclasses.replace(net, stand_in=True)) == "substitute"
    pictures = "reduced"
    assert fidelity() == "reduced"


def test_the_largest_network_has_a_plan_that_fits(monkeypatch):
    cost = photographs.COSTS["vit_base_patch16_224"]
    paper = PROFILES["paper"]
    net = networks.network(paper, "vit")
    assert photographs._memory(net, cost, 64, 1.0, paper.criteria.steps) < 24 * 2**30
    whole = dataclasses.replace(cost, micro_batch=None)
    monkeypatch.setattr(photographs, "LARGE_BASIS", math.inf)
    assert photographs._memory(net, whole, 64, 1.0, paper.criteria.steps) > 60 * 2**30


def test_a_large_basis_is_kept_in_half():
    paper = PROFILES["paper"]
    width = {net.row: photographs._basis_dtype(net, 100) for net in networks.networks(paper)}
    assert {row for row, dtype in width.items() if dtype} == {"alexnet", "vit"}
    assert photographs._basis_dtype(networks.network(paper, "alexnet"), 20) is None
