"""The first convolution for several points at once, since its input is the batch for all points.

With few channels a convolution spends most of its time on reading its input. So the weights of
several points are stacked along the output channels, and each point takes its own channels. The
order of the sums is another one, so the values are not bitwise those of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class StackedConvolution(TorchFunctionMode):
    """In its context, a convolution of the batch is computed for all points at the first point.

    Every call checks, element by element, whether its input is the batch. Other convolutions are
    computed as usual.

    Attributes:
        calls: how often a result was taken from those computed before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def begin(self, thetas: Tensor, x: Any) -> None:
        """Set the weights [n, P] of the next points, and the inputs of the batch."""
        self._thetas, self._x = thetas, x
        self._made: dict[tuple[Any, ...], Tensor] = {}
        self._taken: set[tuple[Any, ...]] = set()
        self._index = 0

    def at(self, index: int) -> Tensor:
        """Go to one of the points; the network has to use views of the returned weights [P]."""
        self._index = index
        return self._thetas[index]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function in the context."""
        if func is F.conv2d:
            found = self._convolution(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))

    def _convolution(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        """The result at this point; None if it cannot be computed for all points at once."""
        weights, biases = self._everywhere(weight), self._everywhere(bias)
        if weights is None or (bias is not None and biases is None) or groups != 1:
            return None
        if not (isinstance(self._x, Tensor) and torch.equal(input, self._x)):
            return None
        origin = self._thetas[self._index].data_ptr()
        offsets = (weight.data_ptr() - origin, bias is not None and bias.data_ptr() - origin)
        key = (*offsets, str((stride, padding, dilation)))
        if (key, self._index) in self._taken:
            return None  # taken before, and perhaps overwritten since then
        self._taken.add((key, self._index))
        outputs = len(weight)
        if key not in self._made:
            self._made[key] = F.conv2d(input, weights, biases, stride, padding, dilation)
        else:
            self.calls += 1
        return self._made[key][:, self._index * outputs : (self._index + 1) * outputs]

    def _everywhere(self, part: Tensor | None) -> Tensor | None:
        """A parameter at all points, stacked along its first dimension; None for another tensor."""
        if part is None or not part.is_contiguous():
            return None
        here = self._thetas[self._index]
        begin, rest = divmod(part.data_ptr() - here.data_ptr(), here.element_size())
        if rest or begin < 0 or begin + part.numel() > len(here) or part.dtype != here.dtype:
            return None
        return self._thetas[:, begin : begin + part.numel()].reshape(-1, *part.shape[1:])
