import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.landscape import evaluate, normalize, random_directions
from lla.landscape.batchnorm import Calibration
from lla.landscape.evaluate import Directions, losses, make_route, same

MODES = ("eval", "train")
NO_VMAP = {"recurrent"}  # no batching rule
OTHER_MASKS = {"encoder_eval", "encoder_train"}  # dropout in train mode of a transposed tensor


def around(problem, count=7, seed=0):
    """Filter-normalised random directions, and coefficients of some points."""
    theta = problem.theta()
    rows = [normalize(row, theta, problem.space, "filter") for row in random_directions(theta)]
    draw = np.random.default_rng(seed).uniform(-0.5, 0.5, size=(count, 2))
    return Directions(theta, torch.stack(rows)), torch.from_numpy(draw)


def values(problem, directions, coefficients, route, **options):
    """The losses of all points, and the route of the last."""
    found = torch.full((len(coefficients),), torch.nan, dtype=problem.dtype)
    used = None
    for place, part, name in losses(problem, directions, coefficients, route=route, **options):
        assert found[place].isnan().all()  # no point twice
        found[place], used = part, name
    return found, used


def in_mode(case, mode, cases, sizes=(5, 3), dtype=torch.float64):
    batches = case.batches(sizes, dtype)
    return lla.Problem(case.make(dtype), batches, case.loss, mode, seed=cases.SEED)


@pytest.mark.parametrize("mode", MODES)
def test_points_are_those_of_plain_calls_with_these_weights(cases, case, mode):
    problem = in_mode(case, mode, cases)
    directions, coefficients = around(problem, 4)
    found, used = values(problem, directions, coefficients, "loop")
    assert used == "loop"
    model, batches = case.make(), case.batches((5, 3))
    for (a, b), value in zip(coefficients.tolist(), found, strict=True):
        moved = directions.theta + a * directions.rows[0] + b * directions.rows[1]
        nn.utils.vector_to_parameters(moved, [p for p in model.parameters() if p.requires_grad])
        expected = cases.plain_loss(model, batches, case.loss, mode)[0].detach()
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("route", ["slices", "stacked:3", "vmap:3"])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_every_route_gives_the_values_of_the_loop(cases, case, route, mode):
    # with dropout: the same mask at every point and under every route
    problem = in_mode(case, mode, cases)
    directions, coefficients = around(problem)
    expected, _ = values(problem, directions, coefficients, "loop")
    assert expected.isfinite().all()
    if route == "vmap:3" and case.name in NO_VMAP:
        with pytest.raises(lla.InputError, match="Batching rule not implemented"):
            values(problem, directions, coefficients, route)
        return
    if route == "vmap:3" and case.name in OTHER_MASKS and mode == "train":
        with pytest.raises(lla.InputError, match="under vmap:3 the model's loss at the centre is"):
            values(problem, directions, coefficients, route)
        return
    found, used = values(problem, directions, coefficients, route)
    assert used == route
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("route", ["loop", "slices", "stacked:3", "vmap:2", "vmap:64"])
@pytest.mark.parametrize("name", ["fire", "cnn_bn_train", "dropout_train", "masks_in_place"])
def test_order_and_company_of_the_points_do_not_matter(cases, name, route):
    problem = in_mode(cases.BY_NAME[name], cases.BY_NAME[name].mode, cases, (5,), torch.float32)
    directions, coefficients = around(problem, 20)
    order = torch.from_numpy(np.random.default_rng(1).permutation(20))
    straight, _ = values(problem, directions, coefficients, route)
    shuffled, _ = values(problem, directions, coefficients[order], route)
    alone, _ = values(problem, directions, coefficients[7:8], route)
    rtol = 0.0 if route in ("loop", "slices") else 1e-5
    torch.testing.assert_close(shuffled, straight[order], rtol=rtol, atol=0)
    torch.testing.assert_close(alone, straight[7:8], rtol=rtol, atol=0)


@pytest.mark.parametrize("route", ["loop", "slices", "stacked:4", "vmap:4"])
def test_the_same_mask_at_every_point(cases, route):
    # a direction that changes nothing shows any change of the mask
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.idle = nn.Linear(3, 8), nn.Linear(2, 2)

        def forward(self, x):
            return F.dropout(self.first(x), 0.5, self.training)

    batch = torch.randn(6, 3), torch.arange(6) % 8
    problem = lla.Problem(Net(), [batch, batch], mode="train")
    row = torch.zeros(problem.space.size)
    row[-2:] = 1.0
    points = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    found, _ = values(problem, Directions(problem.theta(), row[None]), points, route)
    assert len(set(found.tolist())) == 1
    assert found[0] == pytest.approx(float(problem.loss()), rel=1e-6)
    other = lla.Problem(Net(), [batch, batch], mode="eval")
    assert float(found[0]) != pytest.approx(float(other.loss()), rel=1e-3)


class Loader:
    """Counts how often it is passed over."""

    def __init__(self, batches):
        self.batches, self.passes = batches, 0

    def __iter__(self):
        self.passes += 1
        for x, y in self.batches:
            yield x.clone(), y


@pytest.mark.parametrize("route", ["loop", "slices", "stacked:4", "vmap:8"])
def test_a_loader_is_loaded_once_for_many_points(cases, route):
    case = cases.BY_NAME["cnn_bn_eval"]
    batches = case.batches((5, 4, 2))
    loader = Loader(batches)
    problem = lla.Problem(case.make(), loader, case.loss)
    directions, coefficients = around(problem, 40)
    problem.loss()  # also reads what each batch weighs
    before = loader.passes
    found, _ = values(problem, directions, coefficients, route)
    checks = 2 if ":" in route else 0
    assert loader.passes - before == 3 + checks  # 16 + 16 + 8 points
    held = lla.Problem(case.make(), batches, case.loss)
    expected, _ = values(held, directions, coefficients, "loop")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loader", [False, True])
@pytest.mark.parametrize("route", ["loop", "slices", "stacked:2", "vmap:2"])
def test_ragged_batches_are_weighted_by_size(route, loader):
    model = nn.Linear(1, 1, bias=False).double()
    x = torch.arange(1.0, 11.0, dtype=torch.float64)[:, None]
    batches = [(part, torch.zeros(len(part), 1)) for part in x.split([5, 4, 1])]
    problem = lla.Problem(model, Loader(batches) if loader else batches, lambda o, y: (o**2).mean())
    theta = problem.theta()
    row = torch.ones(1, 1, dtype=torch.float64)
    points = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    found, _ = values(problem, Directions(theta, row), points, route)
    expected = [(float(theta) + c) ** 2 * 385 / 10 for c in (-1.0, 0.5, 2.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_points_that_are_not_finite_are_told():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    problem = lla.Problem(model, (torch.ones(1, 1), torch.zeros(1)), lambda o, y: (o**40).sum())
    directions = Directions(problem.theta(), torch.ones(1, 1))
    points = torch.tensor([[0.0], [1e30], [torch.nan], [1.0]], dtype=torch.float64)
    for route in ("loop", "slices", "stacked:4", "vmap:4"):
        found, _ = values(problem, directions, points, route)
        assert found[0] == 1
        assert found[1] == torch.inf
        assert found[2].isnan()
        assert float(found[3]) == pytest.approx(2.0**40)


@pytest.mark.parametrize("name", ["fire", "dropout_train", "recurrent", "encoder_train"])
def test_a_measured_route_gives_the_values_of_the_loop(cases, name):
    case = cases.BY_NAME[name]
    problem = in_mode(case, case.mode, cases, (5,), torch.float32)
    directions, coefficients = around(problem, 160)
    found, used = values(problem, directions, coefficients, None)
    assert used in ("loop", "slices", "stacked:4", "vmap:8")
    expected, _ = values(problem, directions, coefficients, "loop")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    _, used = values(problem, directions, coefficients[:149], None)
    assert used == "loop"  # too few to be worth it


@pytest.mark.parametrize(("share", "chosen"), [(0.97, "loop"), (0.9, "vmap:8")])
def test_a_route_has_to_be_clearly_faster(cases, monkeypatch, share, chosen):
    problem = in_mode(cases.BY_NAME["mlp_mse"], "eval", cases)
    directions, coefficients = around(problem, 8)
    made, seconds = evaluate.make_route, {}

    def named(name, *rest):
        function = made(name, *rest)
        seconds[function] = share if name == "vmap:8" else 1.0
        return function

    monkeypatch.setattr(evaluate, "make_route", named)
    monkeypatch.setattr(evaluate, "_timed", lambda f, c: (seconds[f], f(c)))
    assert evaluate.fastest_route(problem, directions, coefficients) == chosen


def test_routes_are_measured_only_where_there_is_something_to_gain(cases):
    names = {}
    for name in ("fire", "mlp_mse"):
        problem = in_mode(cases.BY_NAME[name], "eval", cases)
        directions, coefficients = around(problem, 8)
        with pytest.MonkeyPatch.context() as patch:
            tried = names.setdefault(name, [])
            real = evaluate.make_route
            patch.setattr(
                evaluate,
                "make_route",
                lambda n, *rest, t=tried, r=real: (t.append(n), r(n, *rest))[1],
            )
            evaluate.fastest_route(problem, directions, coefficients)
    assert names == {
        "fire": ["loop", "slices", "stacked:4", "vmap:8"],
        "mlp_mse": ["loop", "vmap:8"],
    }


@pytest.mark.parametrize("fault", ["wrong", "nan", "raises", "warns", "right"])
def test_a_route_that_does_not_give_the_loops_values_is_not_taken(cases, monkeypatch, fault):
    problem = in_mode(cases.BY_NAME["mlp_mse"], "eval", cases)
    directions, coefficients = around(problem, 150)
    expected, _ = values(problem, directions, coefficients, "loop")
    real, where = evaluate.make_route, {tuple(c.tolist()): v for c, v in
                                        zip(coefficients, expected, strict=True)}  # fmt: skip
    center = torch.zeros_like(coefficients[:1])
    where[0.0, 0.0] = values(problem, directions, center, "loop")[0][0]

    def instant(points):
        if fault == "raises":
            raise KeyError("no such thing")
        if fault == "warns":
            warnings.warn("there is a performance drop", stacklevel=1)
        result = torch.stack([where[tuple(c.tolist())] for c in points])
        return result * {"wrong": 1.001, "nan": torch.nan}.get(fault, 1.0)

    monkeypatch.setattr(
        evaluate, "make_route", lambda name, *rest: real(name, *rest) if name == "loop" else instant
    )
    found, used = values(problem, directions, coefficients, None)
    assert used == ("vmap:8" if fault == "right" else "loop")
    assert torch.equal(found, expected)


def test_warnings_of_the_model_do_not_end_the_measurement():
    class Old(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return self.layer(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = lla.Problem(Old(), (torch.ones(2, 3), torch.tensor([0, 1])))
        directions, coefficients = around(problem, 150)
        found, used = values(problem, directions, coefficients, None)
    assert used == "loop"
    assert found.isfinite().all()


def test_a_loss_of_another_type_can_be_measured():
    model = nn.Linear(3, 3)
    batch = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    problem = lla.Problem(model, batch, lambda out, y: F.cross_entropy(out.double(), y))
    directions, coefficients = around(problem, 150)
    found, _ = values(problem, directions, coefficients, None)
    expected, _ = values(problem, directions, coefficients, "loop")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("route", ["loop", "slices", "stacked:4", "vmap:4", None])
def test_no_points_are_no_losses(cases, route):
    problem = in_mode(cases.BY_NAME["mlp_mse"], "eval", cases)
    directions, coefficients = around(problem)
    assert values(problem, directions, coefficients[:0], route)[1] is None


def test_same_takes_rounding_and_what_is_not_finite():
    x = torch.tensor([1.0, torch.inf, torch.nan, -torch.inf])
    assert same(x * (1 + 1e-5), x)
    assert not same(x * (1 + 1e-3), x)
    assert not same(x.flip(0), x)
    assert not same(x.double() * (1 + 1e-9), x.double())


@pytest.mark.parametrize(
    "route", ["fast", "vmap", "stacked:0", "vmap:", "vmap:0", "vmap:-2", "vmap:x", "Loop", ""]
)
def test_unknown_routes(cases, route):
    problem = in_mode(cases.BY_NAME["mlp_mse"], "eval", cases)
    with pytest.raises(
        lla.InputError, match=f"route is '{route}': choose 'loop', 'slices', 'stacked"
    ):
        make_route(route, problem, *around(problem))


def test_vmap_cannot_recalibrate(cases):
    problem = in_mode(cases.BY_NAME["cnn_bn_eval"], "eval", cases)
    with pytest.raises(
        lla.InputError, match="route 'vmap:8' cannot recalibrate: take route='loop'"
    ):
        values(problem, *around(problem), "vmap:8", calibration=Calibration(problem.batches))


def test_points_come_from_their_coefficients_alone():
    theta = torch.tensor([1.0, 2.0], dtype=torch.float64)
    rows = torch.tensor([[1.0, 0.0], [0.5, -1.0]], dtype=torch.float64)
    directions = Directions(theta, rows)
    assert directions.point(torch.tensor([2.0, -3.0])).tolist() == [1.5, 5.0]
    assert torch.equal(directions.point(torch.zeros(2)), theta)
    both = directions.points(torch.tensor([[2.0, -3.0], [0.0, 1.0]]))
    assert both.tolist() == [[1.5, 5.0], [1.5, 1.0]]
    assert theta.tolist() == [1.0, 2.0]
