import dataclasses
import math

import numpy as np
import pytest
import torch

import lla
from lla import data, training
from lla.errors import InputError, MissingDataError, NonFiniteError
from lla.probes import rademacher
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.generalization import cells as generalization
from paper_tables.exhibits.generalization import shift_planes
from paper_tables.inputs import pair_training, pairs
from paper_tables.inputs import training as inputs_training
from paper_tables.inputs.pairs import PAIRS, Images

DIGITS, RENDERED = PAIRS[:2]
TINY = dataclasses.replace(
    adjusted(PROFILES["quick"], batch_size=16, batches=2, steps=3, points=3, planes=2),
    runs=dataclasses.replace(
        PROFILES["quick"].runs, epochs=3, measured=2, curve=3, batches=2, batch_size=16, steps=3
    ),
)


@pytest.fixture
def few(monkeypatch):
    """Only 128 images of every set, so that an epoch takes no time."""
    real = data.load

    def load(*args, **options):
        found = real(*args, **options)
        return dataclasses.replace(found, images=found.images[:128], labels=found.labels[:128])

    monkeypatch.setattr(data, "load", load)


@pytest.fixture
def settings(without_data, few):
    return without_data(TINY)


def run(settings, *cells):
    suite = Suite(find(), settings)
    return [{record.metric: record for record in suite.run(cell)} for cell in cells]


def cell(settings, name):
    return next(cell for cell in generalization.cells(settings) if cell.name == name)


def test_accuracy_and_loss_are_those_of_the_training_itself(settings):
    images = pairs.images(settings, DIGITS)
    x = data.to_input(images.train.images, size=32)
    model = pair_training.untrained(settings, DIGITS)
    plain = training.train(model, (x, images.train.labels), epochs=3)
    (found,) = run(settings, cell(settings, "lenet-mnist-svhn-training-epoch0003-accuracy"))
    assert found["accuracy"].value == pytest.approx(100 * plain.accuracy[-1])
    assert found["accuracy"].weights.sha256 == plain.weights_sha256, "measuring disturbs nothing"
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(
            model.eval()(x), images.train.labels, reduction="none"
        )
    assert found["loss"].value == pytest.approx(losses.mean().item(), rel=1e-5)
    assert found["loss"].stderr == pytest.approx(losses.std().item() / math.sqrt(128), rel=1e-4)
    test = images.test
    expected = 100 * training.accuracy(model, data.to_input(test.images, size=32), test.labels)
    assert found["test_accuracy"].value == pytest.approx(expected)


@pytest.mark.hard_use(
    "Criteria of a training run with one probe, other steps, other batches or fewer epochs are not "
    "called the paper's"
)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "paper"), ({"probes": 1}, "reduced"), ({"probes": 9}, "reduced"),
        ({"probes": 11}, "paper"), ({"steps": 99}, "reduced"), ({"steps": 101}, "reduced"),
        ({"batch_size": 1024}, "reduced"), ({"epochs": 999}, "reduced"),
    ],
)  # fmt: skip
def test_fidelity(settings, monkeypatch, changes, expected):
    found = pairs.images(settings, DIGITS)
    real = Images(*(
        None if s is None else dataclasses.replace(s, fidelity="paper")
        for s in (found.train, found.test, found.other)
    ))  # fmt: skip
    monkeypatch.setattr(pairs, "images", lambda settings, pair: real)
    runs = dataclasses.replace(PROFILES["paper"].runs, real=False, **changes)
    paper = dataclasses.replace(settings, profile=dataclasses.replace(TINY, runs=runs))
    for side in generalization.SIDES:
        made = generalization._criteria_cell(paper, DIGITS, side, 1)
        assert made.fidelity == expected
        curve = generalization._curve_cell(paper, DIGITS, side, 1)
        assert curve.fidelity == ("reduced" if "epochs" in changes else "paper")


def test_the_other_side_is_the_other_set(settings):
    (found,) = run(settings, cell(settings, "lenet-mnist-svhn-generalization-epoch0001-accuracy"))
    other = pairs.images(settings, DIGITS).other
    assert (other.name, other.split) == ("rendered-digits-gray", "test")
    model, _ = pair_training.at_epoch(settings, DIGITS, 1)
    expected = training.accuracy(model, data.to_input(other.images, size=32), other.labels)
    assert found["accuracy"].value == pytest.approx(100 * expected)
    assert set(found) == {"accuracy", "loss"}
    assert found["accuracy"].fidelity == "substitute"
    assert found["accuracy"].verdict is None


def test_criteria_are_those_of_the_library(settings):
    (found,) = run(settings, cell(settings, "lenet-svhn-mnist-generalization-epoch0003"))
    model, weights = pair_training.at_epoch(settings, RENDERED, 3)
    other = pairs.images(settings, RENDERED).other
    assert other.name == "digits"
    batches = data.batches(other, 16, 2, seed=0, size=32)
    expected = lla.criteria(model, batches, probes=1, steps=3, route="fresh")
    assert found["kh05"].value == pytest.approx(expected.kh05.value, rel=1e-3)
    assert found["kh05"].n == 2
    assert found["kh05"].weights == weights
    first, second = expected.spectra
    top = [float(spectrum.eigenvalues.max()) for spectrum in (first, second)]
    assert found["top_eigenvalue"].value == pytest.approx(sum(top) / 2, rel=1e-4)
    products = []
    for stream, batch in enumerate(batches):
        operator = lla.HessianOperator(lla.Problem(model, batch), route="fresh")
        probe = rademacher(first.size, torch.zeros(()), 0, stream, 0)
        products.append(float(probe @ (operator @ probe)))
    assert found["trace"].value == pytest.approx(sum(products) / 2, rel=1e-3)


def test_measured_epochs_include_both_ends():
    assert pair_training.measured_epochs(1000, 4) == (0, 1, 10, 100, 1000)
    assert pair_training.measured_epochs(1, 5) == (0, 1)
    assert pair_training.measured_epochs(7, 1) == (0, 7)


def test_what_cannot_be_had_says_why(settings):
    found = {c.column: c.reason for c in generalization.cells(settings) if c.compute is None}
    assert len(found) == 4
    reason = found["cifar10-cinic10-i/training"]
    assert "nothing bundled stands in for cifar10: --real-data" in reason


def test_real_data_that_is_missing_names_no_folder(settings):
    real = dataclasses.replace(TINY, runs=dataclasses.replace(TINY.runs, real=True))
    chosen = dataclasses.replace(settings, profile=real)
    reasons = {c.column: c.reason for c in generalization.cells(chosen)}
    assert "'mnist'" in reasons["mnist-svhn/training"]
    assert str(settings.data_root) not in " ".join(reasons.values())


def test_a_pair_with_other_classes_is_refused(settings):
    found = pairs.images(settings, DIGITS)
    hundred = dataclasses.replace(found.other, classes=100, name="cifar100")
    with pytest.raises(InputError, match="digits has 10 classes and cifar100 100: generalization"):
        pairs.checked(Images(found.train, None, hundred))


def test_no_split_of_the_other_set_is_no_test_of_it(settings, monkeypatch):
    real = data.load
    wanted = []

    def load(name, split, root, download):
        wanted.append((name, split))
        if (name, split) == ("rendered-digits-gray", "test"):
            raise MissingDataError("no test split")
        return real(name, split, root, download=download)

    monkeypatch.setattr(data, "load", load)
    found = pairs.images(settings, DIGITS)
    assert (found.other.name, found.other.split) == ("rendered-digits-gray", "train")


def test_a_diverging_training_says_when(settings, monkeypatch):
    monkeypatch.setattr(inputs_training, "LR", 1e12)
    with pytest.raises(NonFiniteError, match=r"the loss of epoch 2 .*: lower the learning rate"):
        pair_training.at_epoch(settings, DIGITS, 3)
    kept = training.kept_checkpoint(pair_training._checkpoint(settings, DIGITS), 1)
    weights = torch.load(kept, weights_only=True)["state_dict"]
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_an_interrupted_run_goes_on_to_the_same_weights(settings, monkeypatch):
    _, whole = pair_training.at_epoch(settings, DIGITS, 3)
    other = dataclasses.replace(settings, work=settings.work / "other")
    real = training.train

    def stops(*args, **options):
        def stop(epoch, loss, accuracy):
            if epoch == 2:
                raise KeyboardInterrupt

        return real(*args, on_epoch=stop, **options)

    monkeypatch.setattr(training, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        pair_training.at_epoch(other, DIGITS, 3)
    monkeypatch.setattr(training, "train", real)
    assert pair_training.at_epoch(other, DIGITS, 3)[1] == whole


def test_planes_of_both_sides_share_their_axes(settings, monkeypatch):
    monkeypatch.setattr(shift_planes, "POINTS", 3)
    monkeypatch.setattr(shift_planes, "PLANES", 2)
    planes = {c.column: c for c in shift_planes.cells(settings)}
    (found,) = run(settings, planes["mnist-svhn"])
    assert tuple(found) == shift_planes.HEIGHTS
    change = found["median_generalization"].value - found["median_training"].value
    assert found["median_change"].value == pytest.approx(change, rel=1e-9)
    here, there = (
        shift_planes.Plane.load(settings.work / found[f"median_{side}"].artifact.name)
        for side in generalization.SIDES
    )
    assert here.norms == there.norms
    assert here.seed == there.seed
    assert here.loss.shape == (3, 3)
    assert found["median_training"].n == 2
    assert planes["cifar10-cinic10-i"].compute is None


def test_roughness_knows_smooth_from_rough():
    a, b = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
    bowl, noise = np.exp(a**2 + b**2), np.random.default_rng(0).normal(size=a.shape)
    smooth, rough = shift_planes.roughness(bowl), shift_planes.roughness(bowl * np.exp(0.3 * noise))
    step = 0.1
    spread = (a**2 + b**2).std()
    assert smooth == pytest.approx(2 * step**2 / spread)
    assert rough > 20 * smooth
    assert shift_planes.roughness(5 * bowl) == pytest.approx(smooth)
    assert shift_planes.roughness(np.full((3, 3), 2.0)) == 0.0


def test_a_route_that_fails_its_check_gives_way_to_double_backward(settings, monkeypatch):
    real = lla.criteria

    def criteria(*args, route, **options):
        if route == "linearized":
            raise InputError("the route 'linearized' fails")
        return real(*args, route=route, **options)

    monkeypatch.setattr(lla, "criteria", criteria)
    (found,) = run(settings, cell(settings, "lenet-mnist-svhn-training-epoch0003"))
    assert found["kh05"].route == "retained"


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # float64 where LeNet is trained for long
def test_the_cheap_rivals_of_the_criteria(settings, monkeypatch, dtype):
    monkeypatch.setattr(generalization, "_precision", lambda settings, pair: dtype)
    (found,) = run(settings, cell(settings, "lenet-mnist-svhn-training-epoch0003-cheap"))
    assert set(found) == {"accuracy_few", "kappa"}
    model, weights = pair_training.at_epoch(settings, DIGITS, 3)
    images = pairs.images(settings, DIGITS).train
    ((x, y),) = data.batches(images, 64, 1, seed=0, size=32)
    right = (model.eval()(x).argmax(1) == y).double().mean().item()
    assert found["accuracy_few"].value == pytest.approx(100 * right)
    smoothed = (64 * right + 0.5) / 65  # half an example more on either side
    stderr = 100 * math.sqrt(smoothed * (1 - smoothed) / 64)
    assert found["accuracy_few"].stderr == pytest.approx(stderr)
    features = []
    model.fc3.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach()))
    for x, _ in data.batches(images, 32, 4, seed=0, size=32):
        model(x)
    w, b, kappas = model.fc3.weight.detach(), model.fc3.bias.detach(), []
    for phi in features:  # E ||phi||^2 (sum_f p_f ||w_f||^2 - ||sum_f p_f w_f||^2), Petzka (2021)
        p = (phi @ w.T + b).softmax(1)
        spread = p @ (w**2).sum(1) - ((p @ w) ** 2).sum(1)
        kappas.append(float(((phi**2).sum(1) * spread).mean()))
    assert found["kappa"].value == pytest.approx(np.mean(kappas), rel=1e-4)
    assert found["kappa"].stderr == pytest.approx(np.std(kappas, ddof=1) / 2, rel=1e-3)
    assert found["kappa"].weights == weights
    assert found["kappa"].config["dtype"] == dtype
