import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.landscape import (
    AdamAxes,
    HessianAxes,
    Normalization,
    RandomAxes,
    accuracy,
    loss_planes,
    plane_directions,
    top_eigenvalue,
)

X, Y = torch.linspace(-1, 1, 24).view(8, 3).sin(), torch.arange(8) % 3
ROUTES = ("loop", "slices", "vmap:8")


def mlp(seed=0, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).to(dtype)


def problem_of(model):
    dtype = next(model.parameters()).dtype
    return lla.Problem(model, (X.to(dtype), Y))


def vector(size, seed=0, dtype=torch.float32):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=size), dtype=dtype)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_centre_is_the_loss_bit_for_bit(cases, case, mode):
    for dtype in (torch.float32, torch.float64):
        batches = case.batches((5, 3), dtype)
        problem = lla.Problem(case.make(dtype), batches, case.loss, mode, seed=cases.SEED)
        # the 840th of 41 x 41 points, and the others left to other processes
        plane = lla.loss_plane(problem, normalization="filter", part=(840, 1681))
        assert plane.loss.shape == (41, 41)
        assert (plane.a[20], plane.b[20]) == (0, 0)
        assert np.argwhere(plane.evaluated).tolist() == [[20, 20]]
        assert plane.loss[20, 20] == problem.loss().numpy()
        assert plane.loss.dtype == problem.loss().numpy().dtype
        assert plane.center == problem.loss().item()
        assert plane.mode == mode


def test_figure_1_has_the_unmodified_weights_at_20_20(cases):
    # claim F1.center: a whole plane with the paper's 40 steps
    problem = cases.BY_NAME["mlp_mse"].problem((9,), torch.float32)
    plane = lla.loss_plane(problem, normalization="filter", route="loop")
    assert plane.loss.shape == (41, 41)
    assert plane.evaluated.all()
    assert plane.loss[20, 20] == problem.loss().numpy() == np.float32(plane.center)
    assert np.isfinite(plane.loss).all()
    hessian = lla.loss_plane(problem, "hessian", normalization="filter", part=(840, 1681))
    assert hessian.loss[20, 20] == problem.loss().numpy()


def quadratic(cases, dtype):
    A, _ = cases.matrix([0.5, 1.0, 2.0, 3.0, 4.0, 5.0])
    batch = (torch.zeros(1, 1, dtype=dtype), torch.zeros(1))
    return lla.Problem(cases.Quadratic(torch.as_tensor(A, dtype=dtype)), batch, cases.take_output)


def closed_form(problem, rows, a, b):
    """0.5 theta' A theta at every point, in float64."""
    A = problem.model.A.double().numpy()
    theta, (one, two) = problem.theta().double().numpy(), rows.double().numpy()
    points = theta + a[:, None, None] * one + b[None, :, None] * two
    return 0.5 * np.einsum("abi,ij,abj->ab", points, A, points)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_plane_of_a_quadratic_is_its_closed_form(cases, dtype, route):
    problem = quadratic(cases, dtype)
    rows = torch.stack([vector(6, 1, dtype), vector(6, 2, dtype)])
    plane = lla.loss_plane(problem, rows, distance=3.0, route=route)
    expected = closed_form(problem, rows, plane.a, plane.b)
    assert plane.loss.shape == (41, 41)
    assert plane.route == route
    rtol = 1e-6 if dtype == torch.float32 else 1e-13
    np.testing.assert_allclose(plane.loss, expected, rtol=rtol)
    assert plane.norms == pytest.approx(tuple(rows.double().norm(dim=1).tolist()), rel=1e-12)
    axes = rows[0], rows[1]
    swapped = lla.loss_plane(problem, axes[::-1], distance=3.0, steps=8, route=route)
    np.testing.assert_allclose(swapped.loss, plane.loss[::5, ::5].T, rtol=rtol)


@pytest.mark.parametrize("normalization", [None, "weight", "filter", "layer", "model"])
def test_random_and_normalised_planes_of_a_quadratic(cases, normalization):
    problem = quadratic(cases, torch.float64)
    options = {"normalization": normalization, "seed": 3}
    rows = plane_directions(problem, **options)
    plane = lla.loss_plane(problem, steps=10, route="loop", **options)
    expected = closed_form(problem, rows, plane.a, plane.b)
    np.testing.assert_allclose(plane.loss, expected, rtol=1e-12)
    again = lla.loss_plane(problem, rows, normalization=None, steps=10, route="loop")
    assert np.array_equal(again.loss, plane.loss)


def test_a_line_is_the_middle_of_a_plane():
    problem = problem_of(mlp(dtype=torch.float64))
    options = {"normalization": "filter", "steps": 6, "route": "loop"}
    plane, line = (lla.loss_plane(problem, RandomAxes(count=n), **options) for n in (2, 1))
    assert line.loss.shape == (7,)
    assert line.b.shape == (0,)
    np.testing.assert_allclose(line.loss, plane.loss[:, 3], rtol=1e-14)
    row = plane_directions(problem, RandomAxes(count=1), "filter")
    given = lla.loss_plane(problem, row, steps=6, route="loop")
    assert np.array_equal(given.loss, line.loss)
    assert line.loss[3] == problem.loss()
    assert len(line.norms) == 1


def test_other_coordinates_and_points_that_do_not_depend_on_their_order():
    problem = problem_of(mlp(dtype=torch.float64))
    rows = torch.stack([vector(31, s, torch.float64) for s in (0, 1)])
    a, b = [0.3, -0.2, 0.0], [0.0, 1.0, -0.5, 0.25]
    plane = lla.loss_plane(problem, rows, coordinates=(a, b))
    assert plane.loss.shape == (3, 4)
    assert (plane.a.tolist(), plane.b.tolist()) == (a, b)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            there = problem.loss(problem.theta() + x * rows[0] + y * rows[1]).item()
            assert plane.loss[i, j] == pytest.approx(there, rel=1e-13)
    turned = lla.loss_plane(problem, rows, coordinates=(a[::-1], b[::-1]))
    assert np.array_equal(turned.loss, plane.loss[::-1, ::-1])
    assert plane.center == plane.loss[2, 0] == problem.loss()


class ReluNet(nn.Module):
    """A convolution and two linear layers with biases and ReLU between."""

    def __init__(self):
        super().__init__()
        self.conv, self.hidden = nn.Conv2d(1, 4, 3), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.head(F.relu(self.hidden(F.max_pool2d(x, 2).flatten(1))))


@pytest.mark.parametrize("layers", [("conv", "hidden"), ("hidden", "head"), ("conv", "head")])
@pytest.mark.parametrize("axes", ["random", "given"])
def test_rescaling_of_relu_layers(layers, axes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = ReluNet(), torch.randn(16, 1, 6, 6)
    batch = x, torch.arange(16) % 3
    scaled = copy.deepcopy(model)
    factor = 1.0
    for name in ("conv", "hidden", "head"):
        layer = getattr(scaled, name)
        factor *= {layers[0]: 10.0, layers[1]: 0.1}.get(name, 1.0)
        with torch.no_grad():
            layer.weight.mul_({layers[0]: 10.0, layers[1]: 0.1}.get(name, 1.0))
            layer.bias.mul_(factor)  # what comes in is scaled already
    problems = [lla.Problem(m, batch) for m in (model, scaled)]
    torch.testing.assert_close(problems[0].loss(), problems[1].loss(), rtol=1e-5, atol=0)
    size = problems[0].space.size
    given = axes if axes == "random" else torch.stack([vector(size, 5), vector(size, 6)])
    planes = {
        method: [
            lla.loss_plane(p, given, normalization=method, distance=2.0, steps=6).loss
            for p in problems
        ]
        for method in ("filter", "layer", None)
    }
    np.testing.assert_allclose(planes["filter"][1], planes["filter"][0], rtol=1e-4)
    np.testing.assert_allclose(planes["layer"][1], planes["layer"][0], rtol=1e-4)
    changes = np.abs(planes[None][1] / planes[None][0] - 1)
    assert np.median(changes) > 0.1


@pytest.mark.parametrize("freeze", ["head.*", range(4)])
def test_a_plane_is_constant_where_only_frozen_parameters_matter(freeze):
    class Net(nn.Module):
        """Its output is that of the head, or of what comes before it."""

        def __init__(self):
            super().__init__()
            self.body, self.other, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.head(x) if freeze == "head.*" else self.body(x) + self.other(x)

    problem = lla.Problem(Net(), (X, Y))
    options = {"normalization": "filter", "steps": 6, "distance": 20.0, "route": "loop"}
    fixed = lla.loss_plane(problem, freeze=freeze, **options)
    assert np.unique(fixed.loss).tolist() == [problem.loss().item()]
    names = ("head.weight", "head.bias") if freeze == "head.*" else problem.space.names[:4]
    assert fixed.frozen == names
    free = lla.loss_plane(problem, **options)
    assert len(np.unique(free.loss)) > 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_models_stand_at_coefficient_1(dtype):
    model, *others = (mlp(seed, dtype) for seed in range(3))
    problem = problem_of(model)
    plane = lla.loss_plane(problem, others, coordinates=([0.0, 1.0], [0.0, 1.0]))
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    expected = [problem_of(m).loss().item() for m in (model, *others)]
    found = [plane.loss[0, 0], plane.loss[1, 0], plane.loss[0, 1]]
    np.testing.assert_allclose(found, expected, rtol=rtol)
    assert len({round(value, 3) for value in expected}) == 3
    assert (plane.axes, plane.normalization) == ("given", None)
    whole = lla.loss_plane(problem, others, distance=2.0, steps=4)
    assert (whole.a[-1], whole.b[-1]) == (1, 1)
    np.testing.assert_allclose([whole.loss[4, 2], whole.loss[2, 4]], expected[1:], rtol=rtol)
    line = lla.loss_plane(problem, others[:1], distance=2.0, steps=4)
    assert line.loss[-1] == pytest.approx(expected[1], rel=rtol)


def trained(model, **options):
    optimizer = torch.optim.Adam(model.parameters(), **options)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(X.to(next(model.parameters()))), Y).backward()
        optimizer.step()
    return optimizer


def test_adam_axes_are_its_moments():
    model = mlp(dtype=torch.float64)
    optimizer = trained(model)
    problem = problem_of(model)
    plane = lla.loss_plane(problem, AdamAxes(optimizer), steps=4)
    m, v = (torch.cat([optimizer.state[p][key].flatten() for p in model.parameters()])
            for key in ("exp_avg", "exp_avg_sq"))  # fmt: skip
    expected = problem.loss(problem.theta() + plane.a[3] * m + plane.b[0] * v).item()
    assert plane.loss[3, 0] == pytest.approx(expected, rel=1e-13)
    assert plane.axes == "adam"
    assert plane.normalization is None


def test_adameq_is_its_closed_form():
    model = mlp(dtype=torch.float64)
    optimizer = trained(model)
    problem = problem_of(model)
    plane = lla.loss_plane(problem, AdamAxes(optimizer, "adameq"), steps=10)
    m, v = (torch.cat([optimizer.state[p][key].flatten() for p in model.parameters()])
            for key in ("exp_avg", "exp_avg_sq"))  # fmt: skip
    assert plane.loss.shape == (11, 11)
    assert (plane.a[0], plane.a[-1]) == (-1, 1)
    assert 0 < plane.b[0] <= 0.2
    assert plane.b[-1] == 2
    for i, a in enumerate(plane.a):
        for j, b in enumerate(plane.b):
            moved = problem.theta() + a / np.sqrt(b) * m / (v.sqrt() + 1e-8)
            assert plane.loss[i, j] == pytest.approx(problem.loss(moved).item(), rel=1e-12)
    assert (plane.loss[5] == problem.loss().item()).all()
    assert plane.update == "adameq"


def test_several_planes_are_those_of_the_seeds_from_the_first_on():
    problem = problem_of(mlp())
    planes = loss_planes(problem, 3, seed=5, normalization="filter", steps=4)
    assert [plane.seed for plane in planes] == [5, 6, 7]
    for plane in planes:
        alone = lla.loss_plane(problem, seed=plane.seed, normalization="filter", steps=4)
        assert np.array_equal(alone.loss, plane.loss)
    assert len({plane.loss[0, 0] for plane in planes}) == 3
    with pytest.raises(lla.InputError, match="count is 0: give a whole number from 1"):
        loss_planes(problem, 0)


def test_the_same_twice_and_whatever_the_callers_random_numbers_are():
    problem = problem_of(mlp())
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            for distribution in ("uniform", "normal"):
                found.append(
                    lla.loss_plane(
                        problem,
                        RandomAxes(distribution),
                        normalization="filter",
                        steps=8,
                        route="loop",
                    ).loss
                )
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], found[3])
    assert not np.allclose(found[0], found[1], rtol=1e-2)


def test_settings_are_told():
    problem = problem_of(mlp())
    plane = lla.loss_plane(
        problem, RandomAxes("uniform"), normalization=Normalization("filter", 1, signed=True),
        steps=2, seed=9, freeze="0.*", route="slices",
    )  # fmt: skip
    assert (plane.axes, plane.distribution, plane.normalization) == ("random", "uniform", "filter")
    assert (plane.order, plane.signed, plane.seed, plane.route) == (1, True, 9, "slices")
    assert (plane.update, plane.mode, plane.batchnorm) == ("add", "eval", "none")
    assert (plane.frozen, plane.classes) == (("0.weight", "0.bias"), 3)
    given = lla.loss_plane(problem, [vector(31)], steps=2)
    assert (given.distribution, given.order, given.frozen) == (None, None, ())


def test_a_loss_that_explodes_is_told_and_not_raised():
    problem = lla.Problem(mlp(), (X, Y), lambda out, y: (out**2).sum() ** 8)
    plane = lla.loss_plane(problem, normalization="filter", steps=4, distance=1e6)
    assert plane.explosion().verdict == "explodes"
    assert plane.explosion().nonfinite > 0
    assert np.isfinite(plane.loss[2, 2])


def test_weights_that_are_not_finite_are_an_error():
    model = mlp()
    nn.init.constant_(model[0].bias, float("nan"))
    with pytest.raises(lla.NonFiniteError, match="the loss of batch 0 is nan"):
        lla.loss_plane(problem_of(model), [vector(31)], steps=2)


def test_progress_counts_the_points(capsys):
    lla.loss_plane(problem_of(mlp()), normalization="filter", steps=4, progress=True)
    assert "25/25" in capsys.readouterr().err
    lla.loss_plane(problem_of(mlp()), normalization="filter", steps=4)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": torch.zeros(2, 31)}, "direction 0 is zero after normalization and freezing"),
        ({"axes": [vector(31), torch.zeros(31)]}, "direction 1 is zero"),
        ({"axes": [vector(31), vector(31) * -3]}, r"parallel \(cosine -1.*they span no plane"),
        ({"axes": [vector(31), vector(31)], "normalization": "filter"}, "parallel"),
        ({"axes": [torch.cat([torch.ones(16), torch.zeros(15)])], "freeze": "0.*"},
         "direction 0 is zero after normalization and freezing: give another, or freeze fewer"),
        ({"axes": [vector(30), vector(30)]}, r"shape \(30,\), the model 31 parameters: give one"),
        ({"axes": [vector(31), nn.Linear(3, 3)]}, "has other parameters than this one"),
        ({"axes": [torch.full((31,), torch.nan)]}, "a direction holds NaN or infinite elements"),
        ({"axes": "adam"}, "axes='adam' needs the optimizer that trained the model"),
        ({"axes": AdamAxes(torch.optim.Adam(mlp().parameters()))},
         r"the optimizer does not hold the parameter 0\.weight"),
        ({"axes": "gradient"}, "axes is 'gradient': choose 'random', 'hessian', 'adam', or give"),
        ({"steps": 1}, "steps is 1: give an even number from 2 on"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 5}, "steps is 5: give an even number"),
        ({"distance": -1.0}, "distance is -1.0: give a positive number"),
        ({"normalization": "Filter"}, "normalization is 'Filter': choose 'auto', None, 'output'"),
        ({"normalization": Normalization("filter", 0)}, "the order of the norm is 0: choose 1"),
        ({"normalization": Normalization("filter", 2, True)}, "signed sums stand for L1 norms"),
        ({"axes": RandomAxes("cauchy")}, "distribution is 'cauchy': choose 'normal' or 'uniform'"),
        ({"axes": HessianAxes("XX")}, "which is 'XX': choose 'LA', 'SA', 'LM' or 'BE'"),
        ({"seed": -3}, "the seed -3 is negative: choose 0 or more"),
        ({"axes": AdamAxes(update="step")}, "update is 'step': choose 'add' or 'adameq'"),
        ({"freeze": "conv*"}, "matches none of the 4"),
        ({"freeze": "*"}, "freeze leaves no parameter to move"),
        ({"coordinates": ([0.0, 1.0],)}, "coordinates for 1 axes are given, the plane has 2"),
        ({"coordinates": ([], [0.0, 1.0])}, "coordinates are empty or not finite: give numbers"),
        ({"coordinates": ([0.0, np.nan], [0.0, 1.0])}, "coordinates are empty or not finite"),
        ({"coordinates": ([[0.0, 1.0]], [0.0, 1.0])}, "coordinates are empty or not finite"),
        ({"route": "fastest"}, "route is 'fastest': choose 'loop', 'slices', 'stacked:4', 'vmap"),
        ({"axes": RandomAxes(count=3)}, "count is 3: 2 directions span a plane, 1 a line"),
        ({"axes": HessianAxes(count=0)}, "count is 0"),
        ({"part": (2, 2)}, r"part is \(2, 2\): give \(k, n\) with 0 <= k < n"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_input(options, message):
    with pytest.raises(lla.InputError, match=message):
        lla.loss_plane(problem_of(mlp()), **{"normalization": "filter", "steps": 2, **options})


def test_bad_adam_axes():
    model = mlp()
    for optimizer in (torch.optim.SGD(model.parameters()), torch.optim.Adam(model.parameters())):
        with pytest.raises(lla.InputError, match="it must be Adam, and have made a step"):
            lla.loss_plane(problem_of(model), AdamAxes(optimizer), steps=2)
    axes = AdamAxes(trained(model), "adameq")
    with pytest.raises(lla.InputError, match="the second coordinate of adameq is under a root"):
        lla.loss_plane(problem_of(model), axes, coordinates=([0, 1], [0.0, 1.0]))


def test_wrong_steps_are_found_before_the_eigenvectors_are_computed(monkeypatch):
    def never(*args, **options):
        raise AssertionError("computed")

    monkeypatch.setattr("lla.landscape.directions.top_eigenpairs", never)
    with pytest.raises(lla.InputError, match="steps is 3"):
        lla.loss_plane(problem_of(mlp()), "hessian", steps=3)


def _side_effects():
    """The snapshots of tests/hessian/test_side_effects.py; tests are no package."""
    file = Path(__file__).parents[1] / "hessian" / "test_side_effects.py"
    spec = importlib.util.spec_from_file_location("lla_test_side_effects", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("route", [*ROUTES, None])
@pytest.mark.parametrize(
    "case",
    ["cnn_bn_eval", "cnn_bn_train", "fire", "dropout_train", "frozen_and_unused"],
    indirect=True,
)  # fmt: skip
def test_nothing_of_the_callers_changes(case, route):
    effects = _side_effects()
    model, batches = effects.mixed_flags(case.make()), case.batches((4, 3))
    hits = []
    model.register_forward_hook(lambda *_: hits.append(1))
    before = effects.snapshot(model, batches)
    problem = lla.Problem(model, batches, case.loss, case.mode)
    recalibrate = case.name == "cnn_bn_eval" and route in ("loop", "slices")
    lla.loss_plane(
        problem, normalization="filter", steps=6 if route is None else 2, route=route,
        recalibrate=recalibrate,
    )  # fmt: skip
    if route == "loop" and case.name == "cnn_bn_train":
        scalars = {"accuracy": accuracy, "top": top_eigenvalue}
        lla.loss_plane(problem, "hessian", normalization="filter", steps=2, scalars=scalars)
    effects.assert_same(before, effects.snapshot(model, batches))


def test_a_loader_costs_no_random_numbers_of_the_caller():
    effects = _side_effects()
    model = mlp()
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    before = effects.snapshot(model)
    lla.loss_plane(lla.Problem(model, loader), normalization="filter", steps=4)
    effects.assert_same(before, effects.snapshot(model))


def test_training_on_while_a_plane_is_kept():
    model = mlp()
    problem = problem_of(model)
    rows = plane_directions(problem, normalization="filter")
    kept = rows.clone()
    first = lla.loss_plane(problem, rows, steps=4, route="loop")
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    assert torch.equal(rows, kept)
    second = lla.loss_plane(problem, rows, steps=4, route="loop")
    assert second.center == problem.loss().item() != first.center


@pytest.mark.hard_use("A distance beyond the numbers of float32 is refused, not overflown")
def test_a_distance_beyond_the_type():
    problem = lla.Problem(nn.Linear(3, 2), (torch.ones(4, 3), torch.arange(4) % 2))
    with pytest.raises(lla.InputError, match=r"the coordinates reach 5e\+299, beyond 3.4e\+38"):
        lla.loss_plane(problem, steps=2, distance=1e300)
