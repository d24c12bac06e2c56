"""What processes send: the formulas on paper, and the page."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.communication import measurement, prediction
from benchmarks.communication.prediction import A100, NETWORKS
from benchmarks.communication.view import EXHIBIT
from benchmarks.problems import NetworkCase
from benchmarks.publish import publish
from lla.models import build

RESNET, VIT, GPT = NETWORKS


@pytest.mark.parametrize(("known", "name"), [(RESNET, "resnet50"), (VIT, "vit_base_patch16_224")])
def test_sizes_of_networks_are_those_of_the_networks(known, name):
    with torch.device("meta"):
        model = build(name, num_classes=1000, seed=0)
        x = torch.empty(1, 3, 224, 224)
    assert sum(p.numel() for p in model.parameters()) == known.parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    assert counter.get_total_flops() == pytest.approx(known.flops, rel=0.01)


def test_the_size_of_the_language_model_is_that_of_its_layers():
    vocabulary, width, length, layers = 50257, 768, 1024, 12
    inside = layers * 12 * width**2  # weights of matrices
    others = layers * 13 * width + 2 * width  # biases and normalisations
    assert (vocabulary + length) * width + inside + others == GPT.parameters
    attention = layers * 4 * length**2 * width
    flops = 2 * length * (inside + vocabulary * width) + attention
    assert flops == pytest.approx(GPT.flops, rel=0.01)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_split_basis_saves_above_the_speed_that_the_page_names(network):
    steps = 100
    speed = A100.memory / (2 * steps)
    for factor, saves in ((1.1, True), (0.9, False)):
        machine = prediction.Machine(inside=factor * speed, start=0.0)
        assert (prediction.basis_saves(network, 4, steps, machine) > 0) == saves
    assert prediction.basis_saves(network, 1, steps) == 0


def test_the_page_shows_what_was_measured(tmp_path):
    case = NetworkCase("lenet", 8, (1, 32, 32))
    names = ("product", "step")
    found = {f"{what}_{name}": 2.5e6 for what in ("bytes", "predicted") for name in names}
    found |= {f"seconds_{name}": 0.25 for name in names} | {"parameters": 61706}
    publish(EXHIBIT, measurement.records(case, 2, found), tmp_path)
    text = (tmp_path / "benchmarks" / "communication.md").read_text()
    (line,) = [line for line in text.splitlines() if "2 processes" in line]
    assert [cell.strip() for cell in line.split("|")[4:-1]] == ["2.500"] * 4 + ["250"] * 2
    assert "ViT-B/16" in text
    assert "more than 7.5 GB/s" in text
