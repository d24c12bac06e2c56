"""The errors that the library raises at its door.

Each is also the built-in error that a caller would expect, so `except ValueError` keeps working.
A message is one sentence: what is wrong, with which value, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches

import torch


class InputError(ValueError):
    """An argument, a model or a batch that cannot be used as given."""


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a product that is NaN or infinite: no number is made from it."""


class MissingDataError(FileNotFoundError):
    """A data set or a weight file that is neither found nor downloadable."""


class ChecksumError(OSError):
    """A file whose content is not the one expected: truncated, altered, or another file."""


class InsufficientMemoryError(MemoryError):
    """A computation that does not fit into memory, by any plan that there is."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not known, with the nearest one or all that there are.

    >>> print(unknown_name("model", "lenett", ["lenet", "mlp"]))
    there is no model 'lenett': did you mean 'lenet'.
    """
    names = list(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}" if near else f"choose from {', '.join(names)}"
    return InputError(f"there is no {kind} {name!r}: {hint}.")


# what the allocators of torch for the CPU and for CUDA, and CUDA's own libraries, say
_REFUSALS = ("DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory",
             "STATUS_ALLOC_FAILED")  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocator could not allocate."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSALS)
