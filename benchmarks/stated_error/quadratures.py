"""Lanczos quadrature as anyone would write it, and the shorter rules that a longer run contains."""

from __future__ import annotations

import time

import numpy as np
from scipy.linalg import eigh_tridiagonal
from torch import nn

from benchmarks import reference
from benchmarks.peers.libraries import EqualWork, Quadrature
from benchmarks.problems import Pairs

Rule = tuple[np.ndarray, np.ndarray]  # nodes and weights [steps]


def lanczos(product: reference.Product, start: np.ndarray, steps: int) -> Rule:
    """Nodes and weights from Lanczos steps with full reorthogonalisation, in the start's type.

    Args:
        product: with a symmetric matrix.
        start: first vector [P], of any length but 0.
        steps: most; fewer are made where the vectors span an invariant space.
    """
    basis = np.zeros((steps, len(start)), start.dtype)
    basis[0] = start / np.linalg.norm(start)
    alphas: list[float] = []
    betas: list[float] = []
    for step in range(steps):
        vector = product(basis[step])
        size, known = float(np.linalg.norm(vector)), basis[: step + 1]
        alphas.append(float(vector @ basis[step]))
        for _ in range(2):  # twice is enough
            vector = vector - known.T @ (known @ vector)
        beta = float(np.linalg.norm(vector))
        if step + 1 == steps or beta <= 10 * np.finfo(start.dtype).eps * size:
            break
        betas.append(beta)
        basis[step + 1] = vector / beta
    values, vectors = eigh_tridiagonal(np.array(alphas), np.array(betas))
    return values, vectors[0] ** 2


def shorter(rule: Rule, steps: int) -> Rule:
    """What the first steps of a run would have given, from the nodes and weights of the whole run.

    These determine the tridiagonal matrix of the run, which is what Lanczos steps from the roots
    of the weights give for the diagonal matrix of the nodes; its leading part is that of the first
    steps (Golub and Meurant 2010).

    Args:
        rule: nodes and weights of a run.
        steps: fewer than it has.

    >>> nodes, weights = shorter((np.array([-1.0, 1.0, 2.0]), np.array([0.25, 0.25, 0.5])), 1)
    >>> round(float(nodes[0]), 9), round(float(weights[0]), 9)  # one node is at the mean
    (1.0, 1.0)
    """
    nodes, weights = rule
    if steps >= len(nodes):
        return rule
    return lanczos(lambda vector: nodes * vector, np.sqrt(weights), steps)


def plain(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    """The spectrum by double backward in plain PyTorch, whose graph is kept.

    Nobody who knows PyTorch would write less: it is a lower bound for the time of such code.

    Args:
        model: whose Hessian is taken.
        pairs: batches.
        work: steps, probes and their seed.
    """
    product, size = reference.products(model, pairs)
    rng = np.random.default_rng(work.seed)
    began: list[float] = []

    def noted(vector: np.ndarray) -> np.ndarray:
        began.append(time.perf_counter())
        return product(vector)

    starts = 2 * rng.integers(0, 2, (work.probes, size)).astype(np.float32) - 1
    nodes, weights = zip(*(lanczos(noted, v, work.steps) for v in starts), strict=True)
    return Quadrature(
        np.stack(nodes), np.stack(weights), len(began), starts[0].astype(float), np.array(began)
    )
