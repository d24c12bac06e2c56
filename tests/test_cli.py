import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import lla
from lla import data, models
from lla.cli import app
from lla.layers.flatness import flatness
from lla.layers.flatness_result import Flatness


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


SMALL = ("--batches", 2, "--batch-size", 16, "--probes", 2, "--steps", 6)


def test_criteria_are_those_of_the_library(tmp_path):
    result = run("criteria", "lenet", "--data", "digits", *SMALL, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    pairs = data.batches(data.load("digits", "train"), 16, 2, seed=0, size=32)
    expected = lla.criteria(models.build("lenet", seed=0), pairs, probes=2, steps=6)
    shown = {line.split()[0]: float(line.split()[1]) for line in result.output.splitlines()[2:5]}
    assert shown["K_H1"] == pytest.approx(expected.kh1.value, rel=1e-2)
    assert shown["r_e"] == pytest.approx(expected.re.value, rel=1e-2)
    saved = lla.Spectrum.load(tmp_path / "spectrum_1.npz")
    np.testing.assert_allclose(saved.eigenvalues, expected.spectra[1].eigenvalues, rtol=1e-2)
    assert (tmp_path / "spectrum.png").stat().st_size > 1000


def test_a_target_decides_on_probes_and_says_so():
    extra = ("--target-stderr", 0.5, "--over", "probes", "--steps", 30, "--probes", 9)
    result = run("criteria", "lenet", "--data", "digits", "--batches", 2, "--batch-size", 8, *extra)
    assert result.exit_code == 0, result.output
    assert "standard error of 0.5: met" in result.output
    assert "K_H1" in result.output
    assert "K_H05" not in result.output
    assert "nan" not in result.output
    wrong = run("criteria", "lenet", "--data", "digits", "--target-stderr", -1)
    assert wrong.exit_code == 2
    assert "target_stderr is -1.0 for re: give a positive number" in wrong.stderr


def test_criteria_from_micro_batches_show_their_plan():
    whole, parts = (
        run("criteria", "lenet", "--data", "digits", *SMALL, *extra)
        for extra in ((), ("--micro-batch", 5))
    )
    assert "plan: whole batches, " in whole.output
    assert "plan: micro-batches of 5, " in parts.output
    assert parts.output.splitlines()[2:5] == whole.output.splitlines()[2:5]
    refused = run("criteria", "lenet", "--data", "digits", "--micro-batch", 5, "--mode", "train")
    assert refused.exit_code == 2
    assert "micro_batch is 5 in train mode" in refused.output


def test_a_network_of_the_callers_own(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "import torch\n"
        "def make():\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    result = run("criteria", "own_network:make", "--data", "digits", *SMALL)
    assert result.exit_code == 0, result.output
    assert sys.path == before


def test_flatness_is_that_of_the_library(tmp_path):
    arguments = ("--data", "digits", "--batches", 2, "--batch-size", 8, "--precision", "float64")
    chosen = ("--layers", "conv2", "--layers", "fc3", "--normalize-inputs")
    result = run("flatness", "lenet", *arguments, *chosen, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    pairs = data.batches(data.load("digits", "train"), 8, 2, seed=0, size=32)
    pairs = [(x.double(), y) for x, y in pairs]
    expected = flatness(
        models.build("lenet", seed=0).double(), pairs, ["conv2", "fc3"], normalize_inputs=True
    )
    saved = Flatness.load(tmp_path / "flatness.npz")
    np.testing.assert_allclose(saved.values, expected.values, rtol=1e-5)
    lines = result.output.splitlines()
    assert lines[2].split()[:2] == ["conv2", f"{expected['conv2'].trace.value:.4g}"]
    assert "16 images, float64, inputs normalized" in lines[6]
    assert "1 by closed form: each feature" in result.output
    assert (tmp_path / "flatness.csv").read_text().startswith("layer,trace,trace_stderr,")
    assert (tmp_path / "flatness.png").stat().st_size > 1000


def test_a_plane_is_that_of_the_library(tmp_path):
    arguments = ("--data", "digits", "--batch-size", 16, "--steps", 4, "--accuracy")
    result = run("plane", "lenet", *arguments, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    pairs = data.batches(data.load("digits", "train"), 16, 1, seed=0, size=32)
    expected = lla.loss_plane(lla.Problem(models.build("lenet", seed=0), pairs), steps=4)
    saved = lla.Plane.load(tmp_path / "plane.npz")
    np.testing.assert_allclose(saved.loss, expected.loss, rtol=1e-5)
    assert saved.scalar("accuracy").shape == (5, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "accuracy.png", "contour.png", "line.png", "plane.npz", "surface.png",
    ]  # fmt: skip


def test_pictures_are_taken_too(tmp_path):
    arguments = ("--data", "sample-crops", "--size", 64, "--batch-size", 2, "--steps", 2)
    result = run("plane", "squeezenet1_1", *arguments, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "substitute" in result.output
    assert lla.Plane.load(tmp_path / "plane.npz").classes == 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("criteria", "lenet", "--data", "nothing"), "no data set"),
        (("criteria", "nothing", "--data", "digits"), "no model"),
        (("criteria", "no_module:make", "--data", "digits"), "cannot be imported"),
        (("criteria", "lenet", "--data", "digits", "--parameters", "none*"), "matches none"),
        (("criteria", "lenet", "--data", "digits", "--batches", 9999), "fewer or smaller"),
        (("flatness", "lenet", "--data", "digits", "--layers", "conv9"), "has no layer 'conv9'"),
        (("flatness", "lenet", "--data", "digits", "--method", "closed"), "does not cover conv1"),
        (("plane", "lenet", "--data", "digits", "--normalization", "best"), "choose 'auto'"),
        (("plane", "lenet", "--data", "digits", "--steps", 3), "even number"),
        (("plane", "lenet", "--data", "digits", "--cap", -1.0), "positive"),
        (("data", "verify", "nothing"), "no data set"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_are_one_sentence(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_tables_needs_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("tables")
    assert result.exit_code == 2
    assert "checkout" in result.output


def test_data_list_names_every_set():
    result = run("data", "list")
    assert result.exit_code == 0
    assert all(name in result.output for name in data.names())
