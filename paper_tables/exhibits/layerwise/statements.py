"""What is claimed of layer-wise Hessians, and where it is judged."""

from __future__ import annotations

from paper_tables.paper import Claim

WORK = "arXiv:2010.04261"

MLPS: dict[str, str | None] = {"digits-mlp": None, "mnist-mlp": None}
ALL: dict[str, str | None] = {**MLPS, "lenet": None, "resnet20": None}

STATEMENTS = (
    Claim(
        "layerwise.overlap",
        "eigenspaces of different networks",
        "the top eigenspaces of the first layers of networks from different seeds overlap more "
        "than 20 times as much as random spaces",
        "the mean over pairs of networks, divided by k / P, by its 95 % interval (jackknife over "
        "networks)",
        MLPS,
    ),
    Claim(
        "layerwise.centred",
        "eigenspaces of different networks",
        "this overlap is at least 3 times smaller for networks trained on inputs minus their mean",
        "the ratio of both overlaps, by the 95 % interval of its logarithm (Welch)",
        MLPS,
    ),
    Claim(
        "layerwise.rank_one",
        "eigenvectors as matrices",
        "in every layer the first singular value holds more than 0.7 of a top eigenvector",
        "the mean over the eigenvectors of sigma_1^2 / sum sigma^2, by its 95 % interval",
        ALL,
    ),
    Claim(
        "layerwise.kronecker",
        "decoupling",
        "the top eigenspace of every layer overlaps more than 0.6 with that of E[M] x E[xx']",
        "the overlap, by its 95 % interval",
        ALL,
    ),
    Claim(
        "layerwise.batchnorm",
        "decoupling",
        "with BatchNorm the Kronecker overlap is lower from the second layer on",
        "the overlap without and with BatchNorm, by the 95 % interval of the difference (Welch)",
        MLPS,
    ),
    Claim(
        "layerwise.outliers",
        "decoupling",
        "about C - 1 eigenvalues of E[M] of the hidden layers stand out",
        "the eigenvalues before the largest gap, by their 95 % interval: C - 1 within 2",
        ALL,
    ),
    Claim(
        "layerwise.mean_input",
        "decoupling",
        "the largest eigenvalue of E[xx'] of every layer is near ||E[x]||^2",
        "their ratio, by its 95 % interval: from 0.8 to 1.25",
        ALL,
    ),
    Claim(
        "layerwise.off_blocks",
        "arXiv:2602.00816",
        "curvature across layers is not small: the part of H off the diagonal blocks of the layers "
        "has more than half of the norm ||H||_F (a quarter of its square)",
        "||H off blocks||_F / ||H||_F, by its 95 % interval",
        ALL,
    ),
    Claim(
        "layerwise.pac_bayes",
        "PAC-Bayes bound",
        "a posterior in the Kronecker eigenbasis gives tighter PAC-Bayes bounds",
        "bounds of trained networks in both bases",
        {
            "all": "the bound rests on an optimised posterior; its prior, steps and penalty are in "
            "no public code, and a bound with others would not be comparable"
        },
    ),
)  # fmt: skip
