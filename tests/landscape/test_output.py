import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.landscape import (
    layer_changes,
    normalize,
    normalize_output,
    output_change,
    random_directions,
)


def relu_network(dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 3),
        ).to(dtype)  # fmt: skip


def batch(dtype=torch.float64, n=16):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, 3, (n,), generator=generator)


def test_a_linear_layer_has_the_change_of_the_closed_form():
    layer = nn.Linear(4, 3).double()
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    problem = lla.Problem(layer, (x, torch.zeros(7, dtype=torch.long)))
    direction = random_directions(problem.theta(), 1, seed=3)[0]
    weight, bias = direction[:12].view(3, 4), direction[12:]
    norm = torch.linalg.norm(layer(x).detach())
    found = layer_changes(problem, direction)
    assert found["weight"] == pytest.approx((torch.linalg.norm(x @ weight.T) / norm).item())
    assert found["bias"] == pytest.approx((torch.linalg.norm(bias) * math.sqrt(7) / norm).item())
    expected = (torch.linalg.norm(x @ weight.T + bias) / norm).item()
    assert output_change(problem, direction) == pytest.approx(expected)


def test_changes_of_inner_layers_are_difference_quotients():
    model, (x, y) = relu_network(), batch()
    problem = lla.Problem(model, [(x[:5], y[:5]), (x[5:], y[5:])])  # pooled over ragged batches
    direction = random_directions(problem.theta(), 1, seed=1)[0]
    parts, found = problem.space.unflatten(direction), layer_changes(problem, direction)
    step = 1e-6
    for index in (0, 2, 6, 8):
        into = model[:index](x)
        out = model[index](into)
        for kind in ("weight", "bias"):
            layer = copy.deepcopy(model[index])
            with torch.no_grad():
                getattr(layer, kind).add_(parts[f"{index}.{kind}"], alpha=step)
                change = torch.linalg.norm(layer(into) - out) / step / torch.linalg.norm(out)
            assert found[f"{index}.{kind}"] == pytest.approx(change.item(), rel=1e-6)


def together(problem, direction):
    return math.sqrt(sum(c**2 for c in layer_changes(problem, direction).values()))


def test_the_length_of_a_filter_normalised_direction_is_set_by_the_outputs():
    problem = lla.Problem(relu_network(), batch())
    random = random_directions(problem.theta(), 1)[0]
    plain = normalize(random, problem.theta(), problem.space, "filter")
    direction = normalize_output(problem, random)
    expected = plain / max(together(problem, plain), output_change(problem, plain) / 2)
    torch.testing.assert_close(direction, expected)
    assert together(problem, direction) == pytest.approx(1.0)
    # what output_change says of a small step along it
    step = 1e-5
    (before, _), (after, _) = (
        next(problem.outputs(problem.theta() + c * direction)) for c in (0, step)
    )
    change = torch.linalg.norm(after - before) / torch.linalg.norm(before)
    assert change.item() / step == pytest.approx(output_change(problem, direction), rel=1e-4)


def test_a_coherent_direction_is_limited_by_the_output_of_the_network():
    """All weights of a deep positive network grow together: the changes add up."""
    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(25))).double()
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(1 / 3)
    problem = lla.Problem(model, (torch.ones(2, 3).double(), torch.zeros(2, dtype=torch.long)))
    direction = normalize_output(problem, torch.ones_like(problem.theta()))
    # each layer changes by d / w, the network by 25 d / w
    torch.testing.assert_close(direction, torch.full_like(direction, 2 / 25 / 3))
    assert output_change(problem, direction) == pytest.approx(2.0)
    assert together(problem, direction) == pytest.approx(2 / 5)


def test_the_size_of_a_direction_in_any_parameter_does_not_matter():
    problem = lla.Problem(relu_network(), batch())
    direction = random_directions(problem.theta(), 1)[0]
    scaled = direction.clone()
    for i, (_, _, place) in enumerate(problem.space):
        scaled[place] *= 10.0 ** (i - 4)
    torch.testing.assert_close(
        normalize_output(problem, scaled), normalize_output(problem, direction)
    )
    again = normalize_output(problem, normalize_output(problem, direction))
    torch.testing.assert_close(again, normalize_output(problem, direction))


def rescaled(model, factors):
    """The same function: each layer times a factor, biases times all factors up to there."""
    model = copy.deepcopy(model)
    product = 1.0
    layers = [m for m in model if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for layer, factor in zip(layers, factors, strict=True):
            product *= factor
            layer.weight.mul_(factor)
            layer.bias.mul_(product)
    assert product == pytest.approx(1.0)
    return model


@pytest.mark.parametrize("axes", ["random", "hessian"])
def test_planes_of_rescaled_relu_networks_are_the_same(axes):
    model, data = relu_network(torch.float32), batch(torch.float32)
    other = rescaled(model, (10.0, 0.1, 4.0, 0.25))
    first, second = (lla.Problem(m, data) for m in (model, other))
    assert second.loss().item() == pytest.approx(first.loss().item(), rel=1e-6)
    options = {"steps": 10, "distance": 2.0, "normalization": "output"}
    if axes == "random":
        planes = [lla.loss_plane(p, axes, **options) for p in (first, second)]
        torch.testing.assert_close(
            torch.from_numpy(planes[0].loss), torch.from_numpy(planes[1].loss), rtol=1e-5, atol=0
        )
        assert np.ptp(planes[0].loss) > 0.02 * planes[0].center  # not because nothing moves
        plain = [
            lla.loss_plane(p, axes, **{**options, "normalization": None}) for p in (first, second)
        ]
        assert abs(plain[0].loss - plain[1].loss).max() > 0.1
    else:
        # eigenvectors are another thing after rescaling; carried over they give the same plane
        rows = lla.landscape.hessian_directions(first)
        scales = second.theta() / first.theta()
        planes = [
            lla.loss_plane(p, r, **options)
            for p, r in ((first, rows), (second, rows * scales.nan_to_num()))
        ]
        torch.testing.assert_close(
            torch.from_numpy(planes[0].loss), torch.from_numpy(planes[1].loss), rtol=1e-5, atol=0
        )


def test_every_test_network_is_normalised(case):
    """Attention, BatchNorm in both modes, ties, in-place operations, keyword inputs."""
    problem = case.problem()
    direction = random_directions(problem.theta(), 1)[0]
    before = problem.state()
    scaled = normalize_output(problem, direction)
    assert torch.isfinite(scaled).all()
    layers, whole = together(problem, scaled), output_change(problem, scaled)
    assert layers <= 1 + 1e-9
    assert whole <= 2 + 1e-9
    assert max(layers, whole / 2) == pytest.approx(1.0)
    for name, tensor in problem.state().items():
        assert torch.equal(tensor, before[name])
    assert torch.backends.mha.get_fastpath_enabled()


def test_batchnorm_in_train_mode_does_not_feel_a_scale():
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5, affine=False)).double()
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = lla.Problem(model, (x, torch.zeros(9, dtype=torch.long)), mode="train")
    scaled = normalize_output(problem, problem.theta())  # radial: the output stays
    assert output_change(problem, scaled) < 1e-3
    assert layer_changes(problem, scaled)["0.weight"] == pytest.approx(1.0)


def test_parameters_outside_of_layers_are_measured_at_the_module_that_uses_them():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.ones(4, dtype=torch.float64))
            self.head = nn.Linear(4, 2).double()

        def forward(self, x):
            return self.head(x + self.shift)

    model = Shifted()
    x = torch.zeros(3, 4, dtype=torch.float64)
    problem = lla.Problem(model, (x, torch.zeros(3, dtype=torch.long)))
    direction = torch.ones_like(problem.theta())
    change = model.head.weight.detach().sum(1).norm() / model(x)[0].detach().norm()
    assert layer_changes(problem, direction)["shift"] == pytest.approx(change.item())


def test_dead_ends():
    model = nn.Linear(2, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    problem = lla.Problem(model, (torch.ones(4, 2), torch.zeros(4, dtype=torch.long)))
    assert math.isinf(layer_changes(problem, torch.ones(9))["weight"])
    with pytest.raises(lla.InputError, match="is zero after normalization"):
        lla.loss_plane(problem, steps=2)
    with pytest.raises(lla.InputError, match="gives zero for every example"):
        output_change(problem, torch.ones(9))
    with pytest.raises(lla.InputError, match="a direction has shape"):
        normalize_output(problem, torch.ones(8))
    with pytest.raises(lla.InputError, match="NaN or infinite"):
        normalize_output(problem, torch.full((9,), torch.nan))


def test_filter_scales_do_not_enter_but_filter_shapes_do():
    """What is not promised: a factor that one filter takes from the next layer's input."""
    model = relu_network()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[6].weight[0] *= 10
        other[6].bias[0] *= 10
        other[8].weight[:, 0] /= 10
    first, second = (lla.Problem(m, batch()) for m in (model, other))
    torch.testing.assert_close(first.loss(), second.loss())
    planes = [lla.loss_plane(p, steps=4, normalization="output").loss for p in (first, second)]
    assert abs(planes[0] - planes[1]).max() > 1e-3


class Functional(nn.Module):
    """A layer that is called, or whose weights are used through a function (issue 14, item 13)."""

    def __init__(self, function):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 3)
        self.function = function

    def forward(self, x):
        if not self.function:
            return self.last(torch.tanh(self.norm(self.first(x))))
        hidden = F.linear(x, self.first.weight, bias=self.first.bias)
        normal = F.layer_norm(hidden, (5,), self.norm.weight, self.norm.bias)
        return F.linear(torch.tanh(normal), self.last.weight, self.last.bias)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_form_in_which_a_layer_is_written_does_not_matter(compiled):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Functional(False).double()
        batch = torch.randn(6, 3).double(), torch.arange(6) % 3
    other = Functional(True).double()
    other.load_state_dict(model.state_dict())
    if compiled:
        other = torch.compile(other, backend="eager")
    found = [
        layer_changes(p, torch.linspace(-1, 1, p.space.size).double())
        for p in (lla.Problem(model, batch), lla.Problem(other, batch))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    planes = [lla.loss_plane(lla.Problem(m, batch), steps=4).loss for m in (model, other)]
    np.testing.assert_allclose(planes[0], planes[1], rtol=1e-10)
