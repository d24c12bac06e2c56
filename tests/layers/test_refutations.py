"""What public code of relative flatness computes, and why it is another number."""

import torch

from lla.layers.flatness import flatness


def test_a_hessian_has_outputs_first(nets):
    # one public loss slices a Hessian [out, in, out, in] as [in, out, out, in]
    model, batches = nets.make(lambda: torch.nn.Linear(3, 3)), nets.pictures((8,), (3,))
    W = model.weight.detach()
    H = nets.explicit(torch.nn.Sequential(model), batches, "0").H
    sliced = sum(
        (W[f] @ W[g]) * sum(H[i, f, g, i] for i in range(3)) for f in range(3) for g in range(3)
    )
    found = flatness(torch.nn.Sequential(model), batches)["0"].kappa.value
    right = sum((W[f] @ W[g]) * H[f, :, g].trace() for f in range(3) for g in range(3))
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), right, rtol=1e-10, atol=0)
    assert abs(sliced / found - 1) > 0.2
