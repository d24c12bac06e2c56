"""Criteria of a cell: an interrupted measurement goes on, and nothing is left of it at the end."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lla.hessian.criteria import criteria as module
from paper_tables.measure import spectra

BATCHES = 3


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measures, and gives the estimates; and how many batches were computed."""
    computed = []
    quadrature = module.quadrature

    def counted(*arguments, **options):
        if len(computed) == counted.most:
            raise KeyboardInterrupt
        computed.append(1)
        return quadrature(*arguments, **options)

    monkeypatch.setattr(module, "quadrature", counted)
    generator = torch.Generator().manual_seed(0)
    pairs = [
        (torch.randn(8, 3, generator=generator), torch.randint(2, (8,), generator=generator))
        for _ in range(BATCHES)
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()

    def run(most=100, count=BATCHES, legacy=False, work="work"):
        computed.clear()
        counted.most = most
        config = spectra.criteria_config("eval", 5, 2, "fresh", legacy) | {
            "seed": 0, "dtype": "float64"
        }  # fmt: skip
        settings = SimpleNamespace(work=tmp_path / work)
        given = [(x.double(), y) for x, y in pairs[:count]]
        return spectra.measured(settings, model, given, config), len(computed)

    run.files = lambda work="work": [p for p in (tmp_path / work).rglob("*") if p.is_file()]
    return run


def test_an_interrupted_measurement_goes_on(measure):
    whole, count = measure(work="other")
    assert count == BATCHES
    assert measure.files("other") == []
    with pytest.raises(KeyboardInterrupt):
        measure(most=2)
    assert len(measure.files()) == 2
    rest, count = measure()
    assert count == 1, "two batches were finished before"
    assert (rest.kh1, rest.kh05, rest.re) == (whole.kh1, whole.kh05, whole.re)
    assert measure.files() == []
    _, count = measure()
    assert count == BATCHES, "what is finished is forgotten"


def test_other_settings_and_other_code_start_anew(measure, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        measure(most=2)
    _, count = measure(legacy=True)
    assert count == BATCHES
    _, count = measure(count=2)
    assert count == 2
    monkeypatch.setattr(spectra.machine, "code_version", lambda: "another")
    _, count = measure()
    assert count == BATCHES


def test_one_batch_is_not_kept(measure):
    with pytest.raises(KeyboardInterrupt):
        measure(most=0, count=1)
    measure(count=1)
    assert measure.files() == []
