"""Weights of any kind become the vectors that a problem has."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lla
from lla.landscape import pca_path
from lla.landscape.flat_weights import flat_weights


def run(count=4):
    """Models of a training run with BatchNorm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        found = []
        for _ in range(count):
            for tensor in (*model.parameters(), model[1].running_mean):
                tensor.data += torch.randn_like(tensor)
            found.append(copy.deepcopy(model))
    return found


MODELS = run()
EXPECTED = [lla.ParameterSpace.of(model).read(model) for model in MODELS]


def models(folder):
    return MODELS


def states(folder):
    return [model.state_dict() for model in MODELS]


def files(folder):
    for i, model in enumerate(MODELS):
        torch.save(model.state_dict(), folder / f"{i}.pt")
    return [folder / f"{i}.pt" for i in range(len(MODELS))]


def safetensors(folder):
    for i, model in enumerate(MODELS):
        save_file(model.state_dict(), folder / f"{i}.safetensors")
    return [str(folder / f"{i}.safetensors") for i in range(len(MODELS))]


def vectors(folder):
    return EXPECTED


def mixed(folder):
    return [EXPECTED[0], files(folder)[1], MODELS[2].state_dict(), MODELS[3]]


KINDS = (models, states, files, vectors, mixed)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_vectors_of_the_problem(kind, tmp_path):
    for found, expected in zip(flat_weights(kind(tmp_path)), EXPECTED, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_needs_nothing_else_and_lies_on_planes_of_its_model(kind, tmp_path):
    path, expected = pca_path(kind(tmp_path)), pca_path(EXPECTED)
    np.testing.assert_allclose(path.coordinates, expected.coordinates)
    assert path.weights_hash == expected.weights_hash
    problem = lla.Problem(MODELS[-1], (torch.ones(4, 3), torch.arange(4) % 2))
    plane = lla.loss_plane(problem, path.directions, normalization=None, coordinates=path.grid(3))
    path.plot(plane)


@pytest.mark.parametrize("made", [lambda m: m, lambda m: lla.ParameterSpace.of(m), lambda m: lla.
    Problem(m, (torch.ones(4, 3), torch.arange(4) % 2))])  # fmt: skip
def test_frozen_parameters_are_left_out_where_a_model_says_which(made):
    frozen = copy.deepcopy(MODELS[0])
    frozen[0].requires_grad_(False)
    found = flat_weights([model.state_dict() for model in MODELS], made(frozen))
    assert all(len(vector) == lla.ParameterSpace.of(frozen).size for vector in found)
    assert torch.equal(found[1][-2:], MODELS[1][2].bias)


def test_safetensors_do_not_keep_the_order_so_they_need_a_model(tmp_path):
    paths = safetensors(tmp_path)
    for found, expected in zip(flat_weights(paths, MODELS[0]), EXPECTED, strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(flat_weights([*paths[:2], MODELS[2]])[1], EXPECTED[1])
    with pytest.raises(lla.InputError, match="does not keep the order of the parameters"):
        flat_weights(paths)


def test_bad_weights(tmp_path):
    with pytest.raises(lla.MissingDataError, match="there is no weight file"):
        flat_weights([tmp_path / "none.pt"])
    damaged = files(tmp_path)[0]
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(lla.ChecksumError, match=r"0\.pt cannot be read as tensors"):
        flat_weights([damaged])
    with pytest.raises(lla.InputError, match="weights 0 holds no state dict"):
        flat_weights([{"epoch": 3}])
    with pytest.raises(lla.InputError, match="weights 0 are int: give flat vectors, models"):
        flat_weights([3])
    other = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(lla.InputError, match="weights 1: no tensor for the parameters"):
        flat_weights([MODELS[0], other.state_dict()])
    with pytest.raises(lla.InputError, match="weights 1: no tensor for the parameters"):
        flat_weights([MODELS[0], other])
