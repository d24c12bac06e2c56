"""What is compared with relative flatness, for one network on one set of examples."""

from __future__ import annotations

from torch import Tensor, nn

import lla
from lla import measures
from lla.layers.flatness import flatness_of

# measure -> how it is printed; relative flatness comes first
MEASURES = {
    "kappa": "kappa",
    "kappa_normalized": "kappa, inputs normalised",
    "kappa_diag": "diagonal part of kappa",
    "trace": "trace",
    "neuronwise": "trace / d",
    "norm_trace": "||W||^2 trace",
    "top_eigenvalue": "largest eigenvalue",
    "fisher_rao": "Fisher-Rao norm (squared)",
    "weight_norm": "weight norm (squared)",
    "sharpness": "sharpness (PAC-Bayes style)",
    "re": "r_e",
    "kh05": "K_H05",
}
RISE = 0.1  # of the loss, that perturbed weights may reach
DRAWS, TOLERANCE = 5, 0.01  # draws of the noise, and relative width of sigma's bracket
STEPS = 40  # Lanczos steps of r_e and K_H05


def measured(model: nn.Module, batch: tuple[Tensor, Tensor], layer: str) -> dict[str, float]:
    """All measures of a network, the keys in the order of `MEASURES`.

    Args:
        model: in eval mode or without layers that know modes.
        batch: all training inputs and labels, in one batch.
        layer: the one that traces and kappas are of.
    """
    problem = lla.Problem(model, batch)
    plain = flatness_of(problem, layer)[layer]
    normalized = flatness_of(problem, layer, normalize_inputs=True)[layer]
    ratios = lla.criteria(model, batch, probes=1, steps=STEPS)
    found = {
        "kappa": plain.kappa.value,
        "kappa_normalized": normalized.kappa.value,
        "kappa_diag": plain.kappa_diag.value,
        "trace": plain.trace.value,
        "neuronwise": plain.neuronwise,
        "norm_trace": measures.weight_norm(problem, layer) * plain.trace.value,
        "top_eigenvalue": measures.largest_eigenvalue(problem, layer),
        "fisher_rao": measures.fisher_rao(problem),
        "weight_norm": measures.weight_norm(problem),
        "sharpness": measures.sharpness(problem, RISE, draws=DRAWS, tol=TOLERANCE).value,
        "re": ratios.re.value,
        "kh05": ratios.kh05.value,
    }
    assert list(found) == list(MEASURES)
    return found
