import dataclasses

import numpy as np
import pytest
import torch

import lla
from paper_tables.measure.checks import (
    BrokenConsequenceError,
    check_criteria,
    check_trace,
)


@pytest.fixture(scope="module")
def criteria():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        ).double()
        batches = [
            (torch.randn(20, 6, dtype=torch.float64), torch.randint(3, (20,))) for _ in range(2)
        ]
        return lla.criteria(model, batches, probes=3, steps=20)


def with_spectrum(criteria, **changes):
    first = dataclasses.replace(criteria.spectra[0], **changes)
    return dataclasses.replace(criteria, spectra=(first, *criteria.spectra[1:]))


def test_real_criteria_pass(criteria):
    check_criteria(criteria)
    check_trace(criteria.spectra)
    check_criteria(criteria.reread("density"))


def test_weights_that_do_not_sum_to_one(criteria):
    with pytest.raises(BrokenConsequenceError, match="sum to 1"):
        check_criteria(with_spectrum(criteria, weights=criteria.spectra[0].weights * 1.001))


def test_nodes_that_are_not_finite(criteria):
    broken = criteria.spectra[0].eigenvalues.copy()
    broken[0, 0] = np.nan
    with pytest.raises(BrokenConsequenceError, match=r"batch 0: .* not finite"):
        check_criteria(with_spectrum(criteria, eigenvalues=broken))


def test_a_kh1_that_is_not_that_of_the_nodes(criteria):
    wrong = dataclasses.replace(criteria.kh1, value=criteria.kh1.value * 1.01)
    with pytest.raises(BrokenConsequenceError, match="K_H1 is"):
        check_criteria(dataclasses.replace(criteria, kh1=wrong))


def shifted(spectrum, mean, scatter=0.0):
    """The spectrum with v'Hv of its probes spread about a mean."""
    quadratic = (spectrum.eigenvalues * spectrum.weights).sum(1)
    wanted = mean + scatter * np.linspace(-1, 1, spectrum.probes)
    return dataclasses.replace(
        spectrum, eigenvalues=spectrum.eigenvalues + (wanted - quadratic)[:, None]
    )


def test_a_negative_trace_is_noise_only_within_its_scatter(criteria):
    (first, second) = criteria.spectra
    with pytest.raises(BrokenConsequenceError, match="above 1"):
        check_trace([shifted(first, -0.1, 0.001), shifted(second, -0.1, 0.001)])
    check_trace([shifted(first, -0.1, 0.3), shifted(second, -0.1, 0.3)])
    # by hand: 4 degrees of freedom, scatter 0.1, 6 samples: 6.62 * 0.1 / sqrt(6) = 0.270
    check_trace([shifted(first, -0.26, 0.1), shifted(second, -0.26, 0.1)])
    with pytest.raises(BrokenConsequenceError):
        check_trace([shifted(first, -0.28, 0.1), shifted(second, -0.28, 0.1)])


def test_a_scatter_between_batches_excuses_nothing(criteria):
    (first, second) = criteria.spectra
    with pytest.raises(BrokenConsequenceError):
        check_trace([shifted(first, -1.0, 0.01), shifted(second, 0.5, 0.01)])


def test_one_probe_has_no_scatter_to_judge_by(criteria):
    first = shifted(criteria.spectra[0], -5.0)
    fields = ("eigenvalues", "weights", "counts")
    one = dataclasses.replace(first, **{name: getattr(first, name)[:1] for name in fields})
    check_trace([one])
