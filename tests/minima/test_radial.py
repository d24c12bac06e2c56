import copy
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.errors import ChecksumError, InputError, NonFiniteError
from lla.minima import radial, radial_index, ray_directions
from lla.storage import load_result
from tests.minima.bowls import bowl

GROUP = 4  # directions that are searched at the same time


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    monkeypatch.setattr(radial, "GROUP", GROUP)


@pytest.fixture
def network():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8),
        nn.ReLU(), nn.Linear(8, 2),
    ).double()  # fmt: skip
    x = torch.randn(12, 1, 4, 4, dtype=torch.float64)
    y = torch.arange(12) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval(), (x, y)


@pytest.fixture
def problem(network):
    found = lla.Problem(*network)
    assert found.loss() < 0.03
    return found


@pytest.mark.parametrize("route", ["loop", "vmap:8", None])
@pytest.mark.parametrize("scan", ["informed", "full"])
def test_radii_are_those_of_a_square(route, scan):
    curvature = torch.linspace(0.1, 30.0, 20, dtype=torch.float64)
    problem = bowl(curvature)
    found = radial_index(problem, 0.1, 11, route=route, scan=scan)
    d = ray_directions(problem, 11)
    np.testing.assert_allclose(
        found.radii, (0.1 / (d**2 * curvature).sum(1)).sqrt().numpy(), rtol=1e-6
    )
    assert (found.scan, found.n, found.censored) == (scan, 20, 0)


def test_directions_have_the_norms_of_filters_and_spare_the_rest(problem):
    space = problem.space
    with torch.no_grad():
        problem.model[4].weight[3] = 0  # a dead filter
    d = space.unflatten(ray_directions(problem, 1)[0])
    for name, weights in problem.parameters().items():
        rows = weights.detach().flatten(1) if weights.ndim > 1 else None
        if rows is None:
            assert not d[name].any()
        else:
            torch.testing.assert_close(d[name].flatten(1).norm(dim=1), rows.norm(dim=1))
    assert radial_index(problem, directions=1).n == 27 + 96 + 16 - 12


def test_directions_depend_on_the_seed_and_their_number_alone(problem):
    few, many = (radial_index(problem, directions=k, route="loop") for k in (3, 5))
    assert np.array_equal(few.radii, many.radii[:3])
    assert not np.isin(radial_index(problem, directions=3, seed=1).radii, many.radii).any()


@pytest.mark.parametrize("factor", [0.03, 7.0])
def test_radii_stay_where_layers_are_rescaled(network, factor):
    model, batch = network
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[4].weight.mul_(factor)
        other[4].bias.mul_(factor)
        other[6].weight.div_(factor)
    found, again = (radial_index(lla.Problem(m, batch), directions=6) for m in (model, other))
    np.testing.assert_allclose(found.radii, again.radii, rtol=1e-6)


def test_an_informed_scan_finds_the_same_with_fewer_evaluations(problem):
    how = {"directions": 3 * GROUP, "route": "loop"}
    informed, full = (radial_index(problem, scan=scan, **how) for scan in ("informed", "full"))
    assert np.array_equal(informed.radii, full.radii)
    assert informed.evaluations < 0.75 * full.evaluations


def test_evaluations_are_counted(problem, monkeypatch):
    points, make = [], radial.make_route

    def counting(*args):
        route = make(*args)

        def counted(coefficients):
            points.append(len(coefficients))
            return route(coefficients)

        return counted

    monkeypatch.setattr(radial, "make_route", counting)
    assert radial_index(problem, directions=5, route="loop").evaluations == sum(points) > 100


def test_a_radius_is_where_the_loss_passes_the_cutoff(problem):
    found = radial_index(problem, 0.2, 4)
    for r, d in zip(found.radii, ray_directions(problem, 4), strict=True):
        below, above = (problem.loss(problem.theta() + r * f * d) for f in (1 - 3e-6, 1 + 3e-6))
        assert below < 0.2 < above


def test_the_model_and_its_buffers_stay(network, problem):
    model, _ = network
    before = copy.deepcopy(model.state_dict())
    radial_index(problem, directions=2)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())


# --- censored directions


@pytest.mark.parametrize(("reach", "censored"), [(0.5, 4), (5.0, 0)])
def test_directions_that_stay_below_are_counted_and_kept(reach, censored):
    problem = bowl(torch.full((6,), 0.1))  # every radius is 1
    with warnings.catch_warnings():
        warnings.simplefilter("error" if not censored else "ignore")
        found = radial_index(problem, directions=4, reach=reach)
    assert (found.censored, len(found.radii)) == (censored, 4)
    np.testing.assert_allclose(found.radii, min(reach, 1.0), rtol=1e-6)


def test_a_cutoff_that_no_direction_reaches_is_said():
    problem = bowl(torch.ones(6), profile=torch.tanh)
    with pytest.warns(UserWarning, match="along 3 of 3 directions the loss stays below 2 up to 10"):
        found = radial_index(problem, 2.0, 3, reach=10)
    assert found.censored == 3
    assert "at least" in repr(found)
    assert "3 censored at 10" in repr(found)


def test_a_loss_that_overflows_has_risen():
    # NaN from 0.3 on, where it is 0.09
    problem = bowl(torch.ones(6), profile=lambda s: s + 0 * (0.09 - s.detach()).sqrt())
    found = radial_index(problem, directions=2)
    np.testing.assert_allclose(found.radii, 0.3, rtol=1e-5)


# --- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cutoff": 1e-5}, "not below the cutoff 1e-05: train the network further"),
        ({"cutoff": -1.0}, "cutoff is -1.0: give a positive number"),
        ({"reach": float("inf")}, "reach is inf"),
        ({"scan": "fast"}, "scan is 'fast': choose 'informed' or 'full'"),
        ({"directions": 0}, "directions is 0"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"route": "fast"}, "route is 'fast'"),
        ({"checkpoint": "no/such/folder/file.npz"}, "does not exist: make it first"),
    ],
)
def test_wrong_arguments_are_refused(problem, options, words):
    with pytest.raises(InputError, match=words):
        radial_index(problem, **options)


def test_a_loss_near_the_cutoff_is_said(problem):
    with pytest.warns(UserWarning, match="is near the cutoff"):
        radial_index(problem, 1.5 * float(problem.loss()), 1)


def test_train_mode_is_refused(network):
    with pytest.raises(InputError, match=r"in train mode, .* take mode='eval'"):
        radial_index(lla.Problem(*network, mode="train"))


def test_a_model_is_no_problem(network):
    with pytest.raises(InputError, match=r"not a lla.Problem"):
        radial_index(network[0])


def test_a_network_without_weights_that_move_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Flatten())
    nn.init.zeros_(model[0].weight)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([9.0, 0.0]))
    with pytest.raises(InputError, match="no parameter has two or more dimensions"):
        radial_index(lla.Problem(model, (torch.ones(2, 2), torch.zeros(2, dtype=torch.long))))


def test_a_loss_that_is_not_finite_is_refused(network):
    model, (x, y) = network
    with pytest.raises(NonFiniteError, match="the loss of batch 0 is"):
        radial_index(lla.Problem(model, (x * torch.nan, y), check=False))


# --- going on


@pytest.fixture
def killed(problem, tmp_path, monkeypatch):
    """The file of a search that ended after its first group."""
    path, calls, search = tmp_path / "radii.npz", [], radial.first_crossings

    def stops(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return search(*args)

    with monkeypatch.context() as patch:
        patch.setattr(radial, "first_crossings", stops)
        with pytest.raises(KeyboardInterrupt):
            radial_index(problem, directions=GROUP + 5, checkpoint=path)
    return path


def test_a_killed_search_goes_on_and_ends_equal(problem, killed, monkeypatch):
    groups, search = [], radial.first_crossings
    monkeypatch.setattr(radial, "first_crossings", lambda *a: groups.append(a[1]) or search(*a))
    found = radial_index(problem, directions=GROUP + 5, checkpoint=killed)
    assert groups == [4, 1]
    whole = radial_index(problem, directions=GROUP + 5, route=found.route)
    assert np.array_equal(found.radii, whole.radii)
    assert found.evaluations == whole.evaluations
    assert found.log10_index == whole.log10_index


@pytest.mark.parametrize("change", [{"seed": 1}, {"cutoff": 0.2}, {"directions": 12}])
def test_another_search_does_not_go_on(problem, killed, change):
    how = {"directions": GROUP + 5, **change}
    with pytest.raises(InputError, match="holds the radii of another search"):
        radial_index(problem, checkpoint=killed, **how)


def test_radii_of_one_route_are_not_joined_with_those_of_another(problem, killed):
    found = radial_index(problem, directions=GROUP + 5, checkpoint=killed)
    other = "loop" if found.route != "loop" else "stacked:4"
    with pytest.raises(InputError, match=f"found by the route '{found.route}', not '{other}'"):
        radial_index(problem, directions=GROUP + 5, checkpoint=killed, route=other)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
def test_a_count_of_directions_that_is_none_is_refused(problem, count):
    with pytest.raises(InputError, match="count is"):
        ray_directions(problem, count)
    with pytest.raises(InputError, match=r"give lla.minima.ray_directions\("):
        ray_directions(problem.model, 2)


def test_other_weights_or_data_are_another_search(network, killed):
    model, (x, y) = network
    with pytest.raises(InputError, match="another search"):
        radial_index(lla.Problem(model, (2 * x, y)), directions=GROUP + 5, checkpoint=killed)
    for loss in (lambda z, y: nn.functional.cross_entropy(z, y) / 2, None):
        model[6].bias.requires_grad_(loss is not None)  # then a frozen parameter
        kind = {} if loss is None else {"loss": loss}
        with pytest.raises(InputError, match="another search"):
            radial_index(lla.Problem(model, (x, y), **kind), directions=9, checkpoint=killed)
    model[6].bias.requires_grad_()
    with torch.no_grad():
        model[1].running_mean.add_(1e-3)
    with pytest.raises(InputError, match="another search"):
        radial_index(lla.Problem(model, (x, y)), directions=GROUP + 5, checkpoint=killed)


def test_a_damaged_file_is_refused(problem, killed):
    killed.write_bytes(killed.read_bytes()[:-40])
    with pytest.raises(ChecksumError):
        radial_index(problem, directions=GROUP + 5, checkpoint=killed)


def test_a_file_that_contradicts_itself_is_refused(problem, killed):
    found = load_result(radial._Done, killed)
    found.count = GROUP + 2  # two radii more than there are
    found.write(killed)
    with pytest.raises(ChecksumError, match="6 radii are done, and not all are positive"):
        radial_index(problem, directions=GROUP + 5, checkpoint=killed)


KILLED = """
import sys, torch, lla
from lla.minima import radial
radial._SAVE_EVERY, radial.GROUP = 0.0, 4
torch.manual_seed(0)
model = torch.nn.Linear(20, 5).double()
with torch.no_grad():
    model.weight.mul_(0.01)
    model.weight[:, :5] += 9 * torch.eye(5)
x = torch.eye(20, dtype=torch.float64)[:5]
problem = lla.Problem(model, (x, torch.arange(5)))
found = radial.radial_index(problem, directions=40, route="loop", checkpoint=sys.argv[1])
"""


def test_a_search_that_is_killed_ends_with_the_same_radii(tmp_path, monkeypatch):
    monkeypatch.setattr(radial, "_SAVE_EVERY", 0.0)  # put back after the exec below
    path = tmp_path / "radii.npz"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < load_result(radial._Done, path).count < 40
    names = {}
    exec(KILLED.partition("found =")[0], names)  # the problem of that process
    how = {"directions": 40, "route": "loop"}
    found = radial_index(names["problem"], checkpoint=path, **how)
    whole = radial_index(names["problem"], **how)
    assert np.array_equal(found.radii, whole.radii)
    assert found.to_dict() == whole.to_dict()
