"""The library's own errors.

Each is also the built-in error that a caller would expect, so `except ValueError` works too. A
message is one sentence: what is wrong, with which value, and what to do.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import torch


class InputError(ValueError):
    """An argument, a model or a batch cannot be used as given."""


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a product is NaN or infinite, so nothing is computed from it."""


class MissingDataError(FileNotFoundError):
    """A data set or a weight file is not found and cannot be downloaded.

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
    """A file does not have the expected content: it is truncated, altered, or another file."""


class WriteError(OSError):
    """A file or a folder cannot be written: the disk is full or read-only, or the path is wrong."""


class InsufficientMemoryError(MemoryError):
    """A computation does not fit into memory, by any plan."""


class RankError(RuntimeError):
    """Another process of those that measure together has failed, ended, or does not answer."""


# For programs that show a person the message alone.
LIBRARY_ERRORS = (
    InputError,
    NonFiniteError,
    MissingDataError,
    ChecksumError,
    WriteError,
    InsufficientMemoryError,
    RankError,
)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not known, with the nearest one or all that there are.

    >>> print(unknown_name("model", "lenett", ["lenet", "mlp"]))
    there is no model 'lenett': did you mean 'lenet'?
    """
    names = list(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
    return InputError(f"there is no {kind} {name!r}: {hint}")


# parts of the messages of torch's allocators for CPU and CUDA, and of CUDA's libraries
_REFUSALS = ("DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory",
             "STATUS_ALLOC_FAILED")  # fmt: skip


def first_line(error: BaseException) -> str:
    r"""The first line of what an error says, or its type where it says nothing.

    >>> first_line(ValueError("no such value\nin a long list")), first_line(KeyError())
    ('no such value', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_of(items: Sequence[str], count: int = 3) -> str:
    """The first items, and the number of the others.

    >>> first_of(["a", "b", "c"]), first_of(["a", "b", "c"], 1)
    ('a, b, c', 'a and 2 more')
    """
    rest = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + rest


def in_one_line(error: BaseException) -> str:
    r"""The type of an error and the first line of what it says.

    >>> in_one_line(ValueError("no such value.\nin a long list")), in_one_line(KeyError())
    ('ValueError: no such value', 'KeyError')
    """
    kind, said = type(error).__name__, first_line(error).rstrip(".")
    return kind if said == kind else f"{kind}: {said}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSALS)
