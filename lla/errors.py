"""The errors that the library raises at its door.

Each is also the built-in error that a caller would expect, so `except ValueError` keeps working.
A message is one sentence: what is wrong, with which value, what to do.
"""

import torch


class InputError(ValueError):
    """An argument, a model or a batch that cannot be used as given."""


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a product that is NaN or infinite: no number is made from it."""


class MissingDataError(FileNotFoundError):
    """A data set or a weight file that is neither found nor downloadable.

    Args:
        reason: What is missing and what to do, without the folders that were searched: records,
            which are published, give it.
        looked: The folders that were searched; the message ends with them.
    """

    def __init__(self, reason: str, looked: str | None = None) -> None:
        super().__init__(reason if looked is None else f"{reason}; looked in {looked}.")
        self.reason = reason
        self.looked = looked

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        return type(self), (self.reason, self.looked)


class ChecksumError(OSError):
    """A file whose content is not the one expected: truncated, altered, or another file."""


class InsufficientMemoryError(MemoryError):
    """A computation that does not fit into memory, by any plan that there is."""


# what the allocators of torch for the CPU and for CUDA, and CUDA's own libraries, say
_REFUSALS = ("DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory",
             "STATUS_ALLOC_FAILED")  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocator could not allocate."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSALS)
