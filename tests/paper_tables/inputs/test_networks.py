import torch

from paper_tables.inputs import networks


def test_modes_that_are_one_function():
    linear = torch.nn.Linear(2, 2)
    assert networks.modes_alike(torch.nn.Sequential(linear, torch.nn.Dropout(0.0)))
    assert not networks.modes_alike(torch.nn.Sequential(linear, torch.nn.Dropout(0.1)))
    assert not networks.modes_alike(torch.nn.Sequential(linear, torch.nn.BatchNorm1d(2)))
