import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lla
from lla import data, models
from lla.analysis import Analysis
from lla.cli import app
from lla.cli.inputs import load_inputs
from lla.layers.flatness import flatness
from lla.layers.flatness_result import Flatness
from lla.layers.layerwise import layerwise
from lla.layers.layerwise_result import Layerwise


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
    assert "16 examples, float64, inputs normalized" in result.output
    assert "1 by closed form: each feature" in result.output
    assert (tmp_path / "flatness.csv").read_text().startswith("layer,trace,trace_stderr,")
    assert (tmp_path / "flatness.png").stat().st_size > 1000


def test_layerwise_is_that_of_the_library(tmp_path):
    arguments = ("--data", "digits", "--batches", 2, "--batch-size", 8, "--precision", "float64")
    chosen = ("--k", 3, "--layers", "conv1", "--layers", "fc3", "--centre")
    result = run("layerwise", "lenet", *arguments, *chosen, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    pairs = data.batches(data.load("digits", "train"), 8, 2, seed=0, size=32)
    pairs = [(x.double(), y) for x, y in pairs]
    model = models.build("lenet", seed=0).double()
    expected = layerwise(model, pairs, 3, ["conv1", "fc3"], centre=True)
    saved = Layerwise.load(tmp_path / "layerwise.npz")
    np.testing.assert_allclose(saved.eigenvalues, expected.eigenvalues, rtol=1e-5)
    lines = result.output.splitlines()
    assert lines[2].split()[:2] == ["conv1", f"{expected['conv1'].eigenvalues[0]:.4g}"]
    assert "16 examples, float64; 3 eigenvectors a layer of the Gauss-Newton" in result.output
    assert (tmp_path / "layerwise.csv").read_text().startswith("layer,eigenvalue,rank_one,")
    assert (tmp_path / "layerwise.png").stat().st_size > 1000


def test_a_walk_is_that_of_the_library(tmp_path):
    arguments = ("--data", "digits", "--batch-size", 16, "--steps", 3, "--level", 2.2)
    more = ("--regularizer", "smooth_l1", "--measured", "kappa", "--test-images", 8)
    result = run("level-set", "lenet", *arguments, *more, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    (pair,), (test,) = (
        data.batches(data.load("digits", split), count, 1, seed=0, size=32)
        for split, count in (("train", 16), ("test", 8))
    )
    problem = lla.Problem(models.build("lenet", seed=0).double(), (pair[0].double(), pair[1]))
    expected = lla.level_sets.walk(
        problem, 2.2, "smooth_l1", steps=3, measured=("kappa",), test=(test[0].double(), test[1])
    )
    saved = lla.level_sets.LevelPath.load(tmp_path / "walk.npz")
    np.testing.assert_allclose(saved.values, expected.values, rtol=1e-6)
    np.testing.assert_allclose(saved.test_loss, expected.test_loss, rtol=1e-6)
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()[2:10] if line}
    assert float(rows["regularizer"][1]) == pytest.approx(expected.regularizer[-1], rel=1e-3)
    assert "4 points at the loss 2.2 within" in result.output
    assert (tmp_path / "walk.csv").read_text().startswith("point,loss,regularizer,")
    assert {path.name for path in tmp_path.glob("[a-z]*")} == {
        "numbers.json", "walk.npz", "walk.csv", "walk.png",
    }  # fmt: skip
    again = run("level-set", "lenet", *arguments, "--out", tmp_path)
    assert "holds walk.csv of an earlier run" in again.output


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
        "accuracy.png", "contour.png", "line.png", "numbers.json", "plane.npz", "surface.png",
    ]  # fmt: skip


def nothing_computed(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("it was loaded before the folder was checked")

    monkeypatch.setattr("lla.cli.command.load_inputs", refuse)


@pytest.mark.hard_use(
    "lla criteria --out and lla plane --out where nothing can be written end before the work"
)
@pytest.mark.parametrize("command", ["criteria", "plane"])
@pytest.mark.parametrize("out", ["file", "file/below", "/proc/none", "x" * 300])
def test_an_out_that_cannot_be_written_is_found_before_the_work(
    tmp_path, monkeypatch, command, out
):
    nothing_computed(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a")
    result = run(command, "lenet", "--data", "digits", "--out", out)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {out} ")
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.hard_use(
    "lla plane and lla criteria do not write into a folder that holds an earlier result"
)
@pytest.mark.parametrize(
    ("command", "there"),
    [
        ("plane", ["plane.npz"]),
        ("plane", ["plane.npz", "unfinished.npz"]),
        ("plane", ["accuracy.png"]),
        ("criteria", ["spectrum_7.npz"]),
        ("criteria", ["spectrum.png"]),
    ],
)
def test_a_folder_with_another_result_is_left_alone(tmp_path, monkeypatch, command, there):
    nothing_computed(monkeypatch)
    for name in there:
        (tmp_path / name).write_text("earlier")
    result = run(command, "lenet", "--data", "digits", "--out", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} holds {there[0]} of an earlier run: name another folder" in result.stderr
    assert {path.read_text() for path in tmp_path.iterdir()} == {"earlier"}


def test_a_plane_interrupted_while_its_pictures_are_drawn_goes_on(tmp_path, monkeypatch):
    arguments = ("plane", "lenet", "--data", "digits", "--batch-size", 4, "--steps", 2)

    def full(figure, path):
        path.write_bytes(b"an earlier picture of this plane")
        raise lla.WriteError(f"{path} cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr("lla.cli.command.write_png", full)
        result = run(*arguments, "--out", tmp_path)
    assert result.exit_code == 2
    assert "contour.png cannot be written (No space left on device)" in result.stderr
    assert "wrote" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "contour.png", "numbers.json", "unfinished.npz",
    ]  # fmt: skip
    assert run(*arguments, "--out", tmp_path).exit_code == 0
    assert "plane.npz" in {path.name for path in tmp_path.iterdir()}


def test_criteria_that_cannot_be_saved_are_shown(tmp_path, monkeypatch):
    def full(figure, path):
        raise lla.WriteError(f"{path} cannot be written (No space left on device)")

    monkeypatch.setattr("lla.cli.command.write_png", full)
    result = run("criteria", "lenet", "--data", "digits", *SMALL, "--out", tmp_path)
    assert result.exit_code == 2
    assert "K_H1" in result.output
    assert "spectrum.png cannot be written (No space left on device)" in result.stderr
    assert "wrote" not in result.output


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
        (("layerwise", "lenet", "--data", "digits", "--layers", "fc4"), "has no layer 'fc4'"),
        (("layerwise", "lenet", "--data", "digits"), "layer conv1 has 6 outputs"),
        (("layerwise", "lenet", "--data", "digits", "--probes", 1), "probes is 1"),
        (("layerwise", "lenet", "--data", "digits", "--k", 0), "k is 0"),
        (("level-set", "lenet", "--data", "digits", "--level", "low"), "--level is 'low'"),
        (("level-set", "lenet", "--data", "digits", "--regularizer", "l3"), "no regularizer"),
        (("level-set", "lenet", "--data", "digits", "--measured", "free"), "no regularizer"),
        (("level-set", "lenet", "--data", "digits", "--tol", 2), "tol is 2"),
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


FACTORIES = """
import torch
value = 3
made_on_import = torch.nn.Linear(784, 10)
def make():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
def imported():
    return torch.nn.Sequential(torch.nn.Flatten(), made_on_import)
def needs(width):
    return make()
def fails():
    raise KeyError("no such width")
def nothing():
    pass
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """The module `several_networks`, seen from the working directory."""
    (tmp_path / "several_networks.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("several_networks", None)


@pytest.mark.hard_use(
    "`lla criteria pkg:make --seed 0` twice gives the same numbers and leaves the random state"
)
@pytest.mark.parametrize("name", ["make", "imported"])
def test_the_seed_is_that_of_a_factorys_weights_too(factories, name):
    torch.manual_seed(3)
    inputs = [load_inputs(f"several_networks:{name}", "digits", seed=s, batch_size=4) for s in (0,)]
    state = torch.get_rng_state()
    sys.modules.pop("several_networks")
    torch.manual_seed(4)
    inputs.append(load_inputs(f"several_networks:{name}", "digits", seed=0, batch_size=4))
    sys.modules.pop("several_networks")
    other = load_inputs(f"several_networks:{name}", "digits", seed=1, batch_size=4)
    first, second, third = (each.model[1].weight for each in (*inputs, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.hard_use(
    "A wrong option of the command line is refused in one sentence, with exit code 2, before a "
    "network is built"
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("criteria", "mlp", "--probes", 10**12),
            "give a whole number from 1 to",
        ),
        (("criteria", "mlp", "--steps", 10**12), "give a whole number from 1 to 10000"),
        (("spectrum", "mlp", "--steps", 10**12), "give a whole number from 1 to 10000"),
        (("criteria", "mlp", "--seed", 2**64), "the seed 18446744073709551616 is too large"),
        (("plane", "mlp", "--seed", -1), "the seed -1 is negative"),
        (("criteria", ":make"), "give package.module:function"),
        (("criteria", ".x:make"), "give package.module:function"),
        (("criteria", "several_networks:"), "give package.module:function"),
        (("criteria", "several_networks:none"), "cannot be imported"),
        (("criteria", "several_networks:value"), "is int, not a function that makes a network"),
        (("criteria", "several_networks:needs"), "needs arguments (missing a required argument"),
        (("criteria", "several_networks:fails"), "raises KeyError: 'no such width'"),
        (("criteria", "several_networks:nothing"), "gives NoneType, not a torch.nn.Module"),
        (("criteria", "mlp", "--device", "foo"), "the device 'foo' cannot be used here"),
        (("criteria", "mlp", "--device", "cuda:99"), "the device 'cuda:99' cannot be used here"),
        (("plane", "mlp", "--device", "meta"), "the device 'meta' cannot be used here"),
        (("criteria", "mlp", "--batches", 9999), "ask for fewer or smaller"),
        (("criteria", "mlp", "--batch-size", 10**12), "ask for fewer or smaller"),
        (("criteria", "mlp", "--data-root", "/"), "--data-root is not read for digits"),
        (("criteria", "mlp", "--size", 64), "--size applies to pictures and vision transformers"),
        (("criteria", "mlp", "--data", "sample-crops", "--split", "test"), "leave --split out"),
        (("criteria", "mlp", "--over", "probes"), "--over says what --target-stderr is over"),
        (("criteria", "mlp", "--target-stderr", "nan"), "target_stderr is nan"),
        (("criteria", "mlp", "--target-stderr", "inf"), "target_stderr is inf"),
        (("plane", "mlp", "--distance", "inf"), "distance is inf: give a positive number"),
        (("plane", "mlp", "--distance", "nan"), "distance is nan: give a positive number"),
        (("plane", "mlp", "--steps", 10**12), "steps is 1000000000000: give an even number"),
        (("plane", "mlp", "--cap", "inf"), "cap is inf: give a positive number"),
        (("plane", "mlp", "--cap", "nan"), "cap is nan: give a positive number"),
        (("plane", "mlp", "--axes", "hessian", "--distribution", "uniform"), "leave it out"),
        (("data", "verify", "digits", "--data-root", "/"), "--data-root is not read for digits"),
        (("data", "fetch", "digits", "--data-root", "/"), "--data-root is not read for digits"),
        (("data", "fetch", "mnist", "--split", "best"), "has no split 'best'"),
        (("data", "list", "--data-root", "~nobody-is-called-so"), "give the whole path"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_wrong_options_are_refused_before_the_work(factories, monkeypatch, arguments, message):
    def build(*_, **__):
        raise AssertionError("a network is built")

    monkeypatch.setattr(models, "build", build)
    monkeypatch.setenv("COLUMNS", "200")
    own = ("--data", "digits") if arguments[0] != "data" and "--data" not in arguments else ()
    result = run(*arguments, *own)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_set_without_files_is_not_verified_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("LLA_DATA", raising=False)
    result = run("data", "verify", "mnist")
    assert result.exit_code == 2, result.output
    assert "no file of mnist is found: give --data-root" in result.output
    bundled = run("data", "verify", "digits")
    assert bundled.exit_code == 0, bundled.output
    assert "digits is bundled" in bundled.output


@pytest.mark.hard_use("A cache folder that cannot be written is named before a download begins")
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "lla").write_text("a file where the folder belongs")
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("LLA_DATA", raising=False)
    result = run("data", "fetch", "mnist")
    assert result.exit_code == 2, result.output
    assert "cannot be written" in result.output
    assert isinstance(result.exception, SystemExit)


TINY = ("--data", "digits", "--batch-size", 8)


def numbers_of(*arguments):
    """What a command prints with --json: one object and nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert not result.stderr
    return json.loads(result.stdout)


def problem_of(precision=None):
    pairs = data.batches(data.load("digits", "train"), 8, 1, seed=0, size=28)
    return lla.Problem(models.build("mlp", seed=0), pairs, precision=precision)


def test_the_version_and_python_m():
    assert run("--version").output == f"lla {lla.__version__}\n"
    said = subprocess.run(
        [sys.executable, "-m", "lla", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"lla {lla.__version__}\n"


def test_criteria_as_one_json_object():
    found = numbers_of("criteria", "lenet", "--data", "digits", *SMALL)
    pairs = data.batches(data.load("digits", "train"), 16, 2, seed=0, size=32)
    expected = lla.criteria(models.build("lenet", seed=0), pairs, probes=2, steps=6)
    for name in ("re", "kh1", "kh05"):
        estimate = getattr(expected, name)
        assert found[name]["value"] == pytest.approx(estimate.value, rel=1e-2)
        assert found[name]["n"] == estimate.n == 2
        assert set(found[name]) == {"value", "stderr", "n"}
    assert found["weights"] == "random weights (seed 0)"


@pytest.mark.parametrize(
    "arguments",
    [
        ("criteria", "lenit"),
        ("trace", "mlp", "--data", "digit"),
        ("plane", "mlp", "--steps", 3, "--data", "digits"),
    ],
)
def test_an_error_is_a_json_object_too(arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert list(json.loads(result.stdout)) == ["error"]
    assert not result.stderr


def test_unknown_names_come_with_suggestions():
    assert "lenet" in run("criteria", "lenit").stderr
    said = run("criteria", "mlp", "--data", "nothing").stderr
    assert all(name in said for name in (*data.names(), *data.picture_names()))


def test_trace_eigenpairs_and_spectrum_are_those_of_the_library(tmp_path):
    H = lla.HessianOperator(problem_of("float64"))
    options = (*TINY, "--precision", "float64")
    trace = numbers_of("trace", "mlp", *options, "--max-matvecs", 20, "--rtol", 0.5)
    expected = lla.trace(H, rtol=0.5, max_matvecs=20)
    assert trace["trace"]["value"] == pytest.approx(expected.value, rel=1e-6)
    pairs = numbers_of("eigenpairs", "mlp", *options, "--which", "SA", "--out", tmp_path / "pairs")
    np.testing.assert_allclose(pairs["values"], lla.top_eigenpairs(H, 2, "SA").values, rtol=1e-5)
    saved = lla.Eigenpairs.load(tmp_path / "pairs" / "eigenpairs.npz")
    np.testing.assert_allclose(saved.values, pairs["values"])
    result = run("spectrum", "mlp", *options, "--probes", 2, "--steps", 5, "--out", tmp_path / "s")
    assert result.exit_code == 0, result.output
    spectrum = lla.Spectrum.load(tmp_path / "s" / "spectrum.npz")
    np.testing.assert_allclose(
        spectrum.eigenvalues, lla.spectral_density(H, 2, 5).eigenvalues, rtol=1e-6, atol=1e-9
    )


def test_out_holds_the_numbers_and_a_command_that_gives_them_again(tmp_path):
    first = tmp_path / "a folder"
    options = ("--max-matvecs", 20, "--rtol", 0.5, "--parameters", "*bias", "--quiet")
    assert run("trace", "mlp", *TINY, *options, "--out", first).exit_code == 0
    found = json.loads((first / "numbers.json").read_text())
    words = shlex.split(found["command"])
    assert words[:3] == ["lla", "trace", "mlp"]
    words[words.index(str(first))] = str(tmp_path / "again")
    assert run(*words[1:]).exit_code == 0
    again = json.loads((tmp_path / "again" / "numbers.json").read_text())
    assert again["trace"] == found["trace"]


def saved_weights(folder, *seeds):
    files = []
    for seed in seeds:
        files.append(folder / f"weights{seed}.pt")
        torch.save(models.build("mlp", seed=seed).state_dict(), files[-1])
    return files


def test_the_line_to_another_checkpoint(tmp_path):
    one, other = saved_weights(tmp_path, 1, 2)
    options = ("--weights", one, "--to", other, "--steps", 4, "--accuracy")
    found = numbers_of("interpolate", "mlp", *TINY, *options, "--out", tmp_path / "line")
    assert found["coefficients"] == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert found["weights"].startswith(f"weights {one} (sha256 ")
    pairs = data.batches(data.load("digits", "train"), 8, 1, seed=0, size=28)
    for i, seed in ((1, 1), (3, 2)):
        end = lla.Problem(models.build("mlp", seed=seed), pairs).loss()
        assert found["losses"][i] == pytest.approx(float(end), rel=1e-5)
    assert (tmp_path / "line" / "accuracy.png").stat().st_size > 1000
    wrong = run("interpolate", "mlp", *TINY, "--to", other, "--steps", 6)
    assert "steps is 6: give a multiple of 4" in wrong.stderr


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_path_of_checkpoints(tmp_path, precision):
    files = saved_weights(tmp_path, 1, 2, 3, 4)
    checkpoints = [word for file in files for word in ("--checkpoint", file)]
    found = numbers_of(
        "path", "mlp", *TINY, *checkpoints, "--points", 3, "--precision", precision,
        "--out", tmp_path / "p",
    )  # fmt: skip
    assert np.shape(found["coordinates"]) == (4, 2)
    assert found["coordinates"][-1] == [0.0, 0.0]
    assert (tmp_path / "p" / "path.png").stat().st_size > 1000
    few = run("path", "mlp", *TINY, *checkpoints[:4])
    assert "there are 2 checkpoints: a path takes three or more" in few.stderr


OWN_BATCHES = """
import torch
def pairs():
    return [(torch.randn(n, 784), torch.arange(n) % 10) for n in (6, 3)]
def tokens():
    return {"x": torch.randn(4, 784), "labels": torch.arange(4)}
def network():
    return torch.nn.Linear(784, 10)
"""


@pytest.fixture
def own_batches(tmp_path, monkeypatch):
    (tmp_path / "own_batches.py").write_text(OWN_BATCHES)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_batches", None)


def test_the_callers_own_batches_are_all_used(own_batches):
    found = numbers_of(
        "flatness", "own_batches:network", "--data", "own_batches:pairs", "--precision", "float64"
    )
    assert found["examples"] == 9
    again = numbers_of(
        "flatness", "own_batches:network", "--data", "own_batches:pairs", "--precision", "float64"
    )
    assert again["layers"] == found["layers"]
    for option in ("--batch-size", "--batches", "--size"):
        wrong = run("trace", "mlp", "--data", "own_batches:pairs", option, 2)
        assert f"{option} does not apply to own_batches:pairs" in wrong.stderr


@pytest.mark.parametrize(
    "command",
    ["criteria --steps 4 --probes 1", "spectrum --steps 4 --probes 1", "trace", "eigenpairs",
     "plane --out p --steps 2", "flatness", "layerwise --probes 2",
     "analyze --steps 4 --points 3"],
)  # fmt: skip
def test_every_command_takes_the_callers_own_network_and_batches(own_batches, command):
    name, *options = command.split()
    how = ("own_batches:network", "--data", "own_batches:pairs")
    result = run(name, *how, *options, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["command"].startswith(f"lla {name} own_batches:network")


def test_a_page_about_the_callers_own_batches_asks_for_no_others(own_batches, tmp_path):
    how = ("--data", "own_batches:pairs", "--steps", 4, "--points", 3, "--out", tmp_path / "p")
    assert run("analyze", "own_batches:network", *how).exit_code == 0
    page = (tmp_path / "p" / "analyze.html").read_text()
    assert "lla criteria own_batches:network --data own_batches:pairs --target-stderr" in page


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:resnet10t"])
def test_networks_of_other_libraries_on_a_folder_of_pictures(tmp_path, name):
    Image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for wnid in ("n01440764", "n01443537"):
        (tmp_path / "pictures" / wnid).mkdir(parents=True)
        pixels = generator.integers(0, 255, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / wnid / "one.png")
    options = ("--data", tmp_path / "pictures", "--batch-size", 2, "--size", 64)
    found = numbers_of("trace", name, *options, "--max-matvecs", 2, "--rtol", 1000)
    assert np.isfinite(found["trace"]["value"])


def test_networks_that_other_libraries_do_not_have():
    for name in ("torchvision:resnet", "timm:resnet"):
        assert "cannot build 'resnet'" in run("trace", name, "--data", "digits").stderr
    assert run("trace", "hf:nowhere", "--data", "digits").exit_code == 2


@pytest.mark.parametrize("command", [("models",), ("data", "list"), ("doctor",)])
def test_lists_fit_a_hundred_columns(command):
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 100
    assert json.loads(run(*command, "--json").stdout)


def test_helps_are_sentences():
    for command in app.registered_commands:
        said = command.callback.__doc__
        assert said.rstrip().endswith("."), command.name
        assert said[0].isupper()


TRAINED = """
import torch
def make():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    from lla import data
    x, y = data.batches(data.load("digits", "train"), 16, 1, seed=0)[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model
"""


def test_radii_are_those_of_the_library(tmp_path, monkeypatch):
    (tmp_path / "trained_network.py").write_text(TRAINED)
    monkeypatch.syspath_prepend(tmp_path)
    how = ("--data", "digits", "--batch-size", 16, "--directions", 5)
    out = tmp_path / "out"
    result = run("minima", "trained_network:make", *how, "--out", out)
    assert result.exit_code == 0, result.output
    inputs = load_inputs("trained_network:make", "digits", batch_size=16)
    expected = lla.minima.radial_index(lla.Problem(inputs.model, inputs.batches), directions=5)
    saved = lla.minima.RadialIndex.load(out / "radii.npz")
    np.testing.assert_allclose(saved.radii, expected.radii, rtol=1e-5)
    assert f"{expected.log10_index:.5g}"[:6] in result.output
    assert "no volume: for ellipsoids in 7840 dimensions" in result.output
    assert {path.name for path in out.iterdir()} == {
        "numbers.json", "radii.npz", "radii.png",
    }  # fmt: skip
    again = run("minima", "trained_network:make", *how, "--out", out)
    assert (again.exit_code, "of an earlier run" in again.stderr) == (2, True)


def test_radii_of_no_minimum_are_refused():
    result = run("minima", "lenet", "--data", "digits", "--batch-size", 16)
    assert result.exit_code == 2
    assert "not below the cutoff 0.1: train the network further" in result.stderr


def test_a_page_about_a_network_names_the_next_commands(tmp_path):
    how = ("--data", "digits", "--batches", 2, "--batch-size", 16, "--steps", 5, "--points", 3)
    result = run("analyze", "lenet", *how, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "numbers.json", "analyze.html", "analyze.npz",
    }  # fmt: skip
    saved = Analysis.load(tmp_path / "analyze.npz")
    assert saved.findings[0].text in " ".join(result.output.split())
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["kind"] == saved.criteria.kind.name
    assert numbers["kh1"]["value"] == saved.criteria.kh1.value
    assert numbers["findings"][0]["topic"] == "Minimum or saddle"
    page = (tmp_path / "analyze.html").read_text()
    assert "lla eigenpairs lenet --data digits --batch-size 16 --which SA --k 5" in page
    assert "--data digits --batch-size 16 --batches 32 --target-stderr" in page
    assert "--batches 2 --mode eval --probes 1 --steps 5 --points 3" in page
    again = run("analyze", "lenet", *how, "--out", tmp_path)
    assert (again.exit_code, "of an earlier run" in again.stderr) == (2, True)


def test_the_next_commands_of_findings_have_no_wrong_option():
    pairs = data.batches(data.load("digits", "train"), 16, 2, seed=0, size=32)
    found = lla.analyze(models.build("lenet", seed=0), pairs, steps=5, points=3)
    commands = [each.command for each in found.findings if each.command]
    assert len(commands) >= 4
    for command in commands:
        result = run(
            *command.format(network="no-such-network --data digits", more=" --batches 32").split()
        )
        assert result.exit_code == 2
        assert "no-such-network" in result.stderr  # the options were read


def test_a_warning_is_a_sentence_without_its_place():
    command = "import warnings; from lla.cli.command import plain_warnings\n"
    command += "with plain_warnings(): warnings.warn('take more probes')"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stderr == "Warning: take more probes\n"


def test_own_data_have_no_test_images(own_batches, tmp_path):
    how = ("--data", "own_batches:pairs", "--test-images", 4, "--out", tmp_path / "w")
    result = run("level-set", "own_batches:network", *how)
    assert "--test-images takes the test split of a data set" in result.stderr
