"""Gradients of logits by the outputs of layers, as the curvature of cross-entropy needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lla.layers.calls import LayerCall
from lla.progress_bars import tqdm


def class_gradients(
    calls: Mapping[str, LayerCall], logits: Tensor, progress: bool = False
) -> Iterator[dict[str, Tensor]]:
    """For each class c, sqrt(p_c) (dz_c/du - sum_k p_k dz_k/du), by layer.

    u is the output of the layer. The sum over classes of their outer products is B' (diag(p) - p
    p') B with B = dz/du: the curvature of the cross-entropy by u, whatever the labels.

    Args:
        calls: of the layers, by name, in the graph of the logits.
        logits: z [n, C].
        progress: show a bar over the classes.

    Yields:
        Tensors of the shape of each layer's output.
    """
    n, classes = logits.shape
    p = logits.detach().double().softmax(1)
    # all differences stay if one gradient is taken from each of them. That of the likeliest class
    # is: of a sure prediction the difference of a gradient and the mean would be rounding
    best = torch.nn.functional.one_hot(p.argmax(1), classes).to(p)
    outputs = [call.output for call in calls.values() if call.output is not None]

    def gradients(cotangent: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            logits, outputs, cotangent.to(logits), retain_graph=True, materialize_grads=True
        )

    others = p * (1 - best)
    means = gradients(others - best * others.sum(1, keepdim=True))
    for c in tqdm(range(classes), desc="classes", disable=not progress):
        one = torch.zeros_like(p)
        one[:, c] = 1
        root = p[:, c].sqrt().to(logits)
        yield {
            name: (delta - mean) * root.reshape(n, *[1] * (delta.ndim - 1))
            for name, delta, mean in zip(calls, gradients(one - best), means, strict=True)
        }
