import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.analysis import findings
from lla.estimate import Estimate
from lla.hessian.eigenpairs import Eigenpairs


@pytest.fixture(scope="module")
def measured():
    """An analysis of a trained network without modes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(60, 2)
    y = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    batches = list(zip(x.split(20), y.split(20), strict=True))
    return lla.analyze(model, batches, steps=10, points=3)


def changed(measured, **values):
    """An analysis with other criteria."""
    return dataclasses.replace(measured, criteria=dataclasses.replace(measured.criteria, **values))


def one(value, stderr=0.0, n=3):
    return Estimate(value, stderr, n, 30)


def eigen(top, low, residual):
    """The largest and the smallest eigenvalue, and the residual of both."""
    return Eigenpairs(
        np.array([top, low]), np.eye(2), np.full(2, residual), True, "BE", 2, 2
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gradient", "low", "residual", "words", "weight"),
    [
        (1.0, -2.0, 1e-3, "Training has not ended here", "note"),
        (1e-6, -2.0, 1e-3, "this is a saddle", "note"),
        (1e-6, -1e-4, 1e-3, "No negative curvature", "good"),  # within its error
        (1e-6, 0.1, 1e-3, "No negative curvature", "good"),
    ],
)
def test_minimum_or_saddle(measured, gradient, low, residual, words, weight):
    given = dataclasses.replace(
        changed(measured, loss=0.5), gradient=gradient, extremes=eigen(4.0, low, residual)
    )  # fmt: skip
    found = findings.stationary(given)
    assert words in found.text
    assert found.weight == weight


def test_what_a_step_along_the_gradient_takes_away(measured):
    given = dataclasses.replace(
        changed(measured, loss=0.5), gradient=0.4, extremes=eigen(4.0, 0.1, 0)
    )
    assert "by 4.0% or more" in findings.stationary(given).text  # .16 / 8 / .5


@pytest.mark.parametrize(
    ("values", "weights", "words", "weight"),
    [
        ([1.0, 3.0], [0.5, 0.5], "The spectrum is positive", "good"),
        ([-1.0, 1.0], [0.5, 0.5], "nearly symmetric", "note"),
        ([-3.0, 1.0], [0.9, 0.1], "check the loss's sign", "warning"),
        ([-1e-4, 1.0], [0.99999, 0.00001], "say little here", "warning"),
    ],
)
def test_the_kind_of_the_spectrum(measured, values, weights, words, weight):
    same = dataclasses.replace(
        measured.criteria.spectra[0], eigenvalues=np.array([values] * 2),
        weights=np.array([weights] * 2), counts=np.array([2, 2]), steps=2,
    )  # fmt: skip
    found = findings.kind(changed(measured, spectra=(same, same)))
    assert words in found.text
    assert found.weight == weight


@pytest.mark.parametrize(
    ("kh1", "over", "words", "weight"),
    [
        (one(0.5, 0.01), "batches", "3 batches tell K_H1 to 2%", "good"),
        (one(0.5, 0.1), "batches", "About 48 would tell it to 5%", "warning"),  # 3 x 16
        (one(0.0, 0.0), "batches", "3 batches are few", "warning"),
        (one(0.5, 0.01), "probes", "nothing about other batches", "warning"),
    ],
)
def test_the_batches(measured, kh1, over, words, weight):
    found = findings.error(changed(measured, kh1=kh1, stderr_kind=over))
    assert words in found.text
    assert found.weight == weight


def test_rounding(measured):
    assert findings.rounding(changed(measured, rounding=1e-3, kh1=one(0.5))) is None
    assert findings.rounding(changed(measured, rounding=None)) is None
    found = findings.rounding(changed(measured, rounding=0.1, kh1=one(0.5)))
    assert "compute in float64" in found.text


def test_the_mode(measured):
    assert measured.other is None
    assert findings.mode(measured) is None
    here = dataclasses.replace(measured.criteria, kh1=one(0.5, 0.1), re=one(0.1, 0.01))
    there = dataclasses.replace(here, kh1=one(0.7, 0.1), re=one(0.2, 0.01))
    both = dataclasses.replace(measured, criteria=here, other=there)
    found = findings.mode(both)
    assert "r_e is 0.100 ± 0.010 in eval mode and 0.200 ± 0.010 in train mode" in found.text
    assert "K_H1" not in found.text  # .2 apart, with errors of .14
    assert found.weight == "warning"
    same = findings.mode(dataclasses.replace(both, other=here))
    assert same.weight == "good"
    assert (
        "was not measured: one example"
        in findings.mode(dataclasses.replace(measured, why_one_mode="one example")).text
    )


@pytest.mark.parametrize(
    ("largest", "words", "weight"),
    [(1.0, "stays moderate", "good"), (20.0, "rises", "note"), (np.inf, "explodes", "warning")],
)
def test_the_landscape(measured, largest, words, weight):
    loss = np.full_like(measured.plane.loss, 0.5)
    loss[0, 0] = largest
    plane = dataclasses.replace(measured.plane, loss=loss, center=0.5, classes=None)
    found = findings.landscape(dataclasses.replace(measured, plane=plane))
    assert words in found.text
    assert found.weight == weight


def test_unused_parameters(measured):
    assert findings.idle(measured) is None
    blocks = measured.blocks
    part = dataclasses.replace(blocks, unused=np.array([6, 0]))
    found = findings.idle(dataclasses.replace(measured, blocks=part))
    assert "does not depend on 14.3% of the parameters" in found.text  # 6 of 24 + 18
    assert "All of" not in found.text
    whole = dataclasses.replace(blocks, unused=blocks.sizes.copy())
    found = findings.idle(dataclasses.replace(measured, blocks=whole))
    assert "All of 0, 2 are among them" in found.text
    assert found.weight == "warning"


def test_the_layer_with_the_largest_share(measured):
    traces = np.array([[1.0, 1.0, 1.1], [3.0, 3.1, 3.0]])
    blocks = dataclasses.replace(measured.blocks, traces=traces)
    found = findings.concentrated(dataclasses.replace(measured, blocks=blocks))
    assert "is in 2, which has 42.9% of the parameters: 0.7459 ± 0.0074." in found.text
    noise = dataclasses.replace(blocks, traces=np.array([[1.0, -1.0], [0.0, 0.1]]))
    assert findings.concentrated(dataclasses.replace(measured, blocks=noise)) is None


def test_findings_name_what_to_call_next(measured):
    for found in measured.findings:
        assert found.code
        assert found.text.endswith(".")
        if found.command:
            assert "{network}" in found.command
