import dataclasses

import pytest
import torch

from lla import data
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.inputs import lenet, networks


def test_modes_that_are_one_function():
    linear = torch.nn.Linear(2, 2)
    assert networks.modes_alike(torch.nn.Sequential(linear, torch.nn.Dropout(0.0)))
    assert not networks.modes_alike(torch.nn.Sequential(linear, torch.nn.Dropout(0.1)))
    assert not networks.modes_alike(torch.nn.Sequential(linear, torch.nn.BatchNorm1d(2)))


@pytest.mark.parametrize(("epochs", "expected"), [(1000, "paper"), (999, "reduced")])
def test_planes_of_lenet_trained_as_the_paper_trains_it(tmp_path, monkeypatch, epochs, expected):
    mnist = dataclasses.replace(data.load("digits"), name="mnist", fidelity="paper")
    monkeypatch.setattr(lenet, "images", lambda settings: mnist)
    monkeypatch.setattr(data.files, "cache_folder", lambda: tmp_path)
    profile = adjusted(PROFILES["paper"], epochs=epochs)
    settings = Settings(profile, tmp_path, tmp_path, data_root=tmp_path)
    net = networks.network(profile, "lenet")
    assert networks.origin(settings, net, "pretrained").fidelity == expected
