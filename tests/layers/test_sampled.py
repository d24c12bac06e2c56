import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lla.layers.flatness import flatness


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.norm, self.top = nn.Linear(3, 9), nn.LayerNorm(3), nn.Linear(3, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.top(self.norm(F.scaled_dot_product_attention(q, k, v) + x).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(F.relu(self.a(F.relu(self.a(x)))))


NETS = {
    "SiLU": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.SiLU(), nn.Flatten(), nn.Linear(12, 3)),
        (2, 3, 3),
        "0",
        "eval",
    ),
    "train-mode BatchNorm": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)),
        (4,),
        "0",
        "train",
    ),
    "attention": (Attention, (4, 3), "qkv", "eval"),
    "tied": (Tied, (4,), "a", "eval"),
    "ReLU": (
        lambda: nn.Sequential(
            nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
        ),
        (4,),
        "0",
        "eval",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_samples_have_the_exact_mean(nets, name):
    build, shape, layer, mode = NETS[name]
    model, batches = nets.make(build), nets.pictures((7, 6), shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a value near zero has a large relative error
        found = flatness(
            model, batches, layer, method="hutchinson", mode=mode, rtol=0.1, max_matvecs=200
        )[layer]
    true = nets.explicit(model.train(mode == "train"), batches, layer)
    assert (found.method, found.why, found.table) == ("hutchinson", "asked for by name", None)
    for quantity in ("trace", "trace_bias", "kappa", "kappa_diag"):
        estimate = getattr(found, quantity)
        error = abs(estimate.value - getattr(true, quantity))
        assert error <= 4 * estimate.stderr + 1e-12, quantity
        assert estimate.stderr <= 0.1 * abs(estimate.value) or estimate.matvecs == 200


@pytest.mark.parametrize("name", ["SiLU", "ReLU"])
def test_samples_with_normalized_inputs_have_the_mean_of_normalized_inputs(nets, name):
    build, shape, layer, _ = NETS[name]
    model, batches = nets.make(build), nets.pictures((7, 6), shape)
    batches = [(x * torch.arange(1.0, 1 + shape[0]).reshape(-1, *[1] * (x.ndim - 2)), y)
               for x, y in batches]  # fmt: skip
    # dividing the input by its deviations, and multiplying the weight, is the same network
    other = copy.deepcopy(model)
    values = torch.cat([x for x, _ in batches]).transpose(0, 1).flatten(1)
    by = values.std(1, correction=0).reshape(-1, *[1] * (batches[0][0].ndim - 2))
    with torch.no_grad():
        other[0].weight.mul_(by)
    true = nets.explicit(other, [(x / by, y) for x, y in batches], layer)
    found = flatness(
        model, batches, layer, method="hutchinson", normalize_inputs=True, rtol=0.1
    )[layer]  # fmt: skip
    for quantity in ("trace", "kappa", "kappa_diag"):
        estimate = getattr(found, quantity)
        assert abs(estimate.value - getattr(true, quantity)) <= 4 * estimate.stderr, quantity


@pytest.mark.parametrize("name", ["SiLU", "train-mode BatchNorm"])
def test_the_formula_would_be_wrong_where_it_is_not_taken(nets, name):
    # the generalized Gauss-Newton matrix, which the formulas give, beside the Hessian
    build, shape, layer, mode = NETS[name]
    model, batches = nets.make(build), nets.pictures((13,), shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auto = flatness(model, batches, layer, mode=mode, max_matvecs=4)[layer]
    assert auto.method == "hutchinson"
    model.train(mode == "train")
    ((x, _),) = batches
    logits = model(x)
    J = torch.stack([
        torch.autograd.grad(z, model[0].weight, retain_graph=True)[0].flatten()
        for z in logits.flatten()
    ]).reshape(*logits.shape, -1)  # fmt: skip
    p = logits.softmax(1)
    A = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    formula = float(torch.einsum("ncp,nck,nkp->", J, A, J).detach()) / len(x)
    assert not 0.9 < formula / nets.explicit(model, batches, layer).trace < 1.1


def test_too_few_products_are_warned_of(nets):
    build, shape, layer, _ = NETS["SiLU"]
    model, batches = nets.make(build), nets.pictures((7,), shape)
    with pytest.warns(UserWarning, match="raise max_matvecs or rtol"):
        found = flatness(model, batches, layer, rtol=1e-4, max_matvecs=3)[layer]
    assert found.kappa.matvecs == 3
    again = flatness(model, batches, layer, rtol=0.9, max_matvecs=3, seed=1)[layer]
    assert again.kappa.value != found.kappa.value
