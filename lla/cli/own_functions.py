"""The caller's own functions, which make networks and batches: "package.module:function"."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch

from lla.errors import InputError, in_one_line, out_of_memory
from lla.seeding import seeded


def is_function(name: str) -> bool:
    """Whether a name is meant as "package.module:function", and not as a path of Windows."""
    return ":" in name and "\\" not in name and "/" not in name


def called(name: str, does: str, device: torch.device, seed: int) -> Any:
    """What the caller's own function gives; its random numbers come from the seed.

    Args:
        name: "package.module:function".
        does: what the function has to do: "makes a network".
        device: whose random state is seeded, with that of the CPU.
        seed: of the random numbers.

    Raises:
        InputError: there is no such function, it needs arguments, or it raises.
    """
    with seeded(device, seed):  # a module may make its network when it is imported
        make = _function(name, does)
        try:
            return make()
        except Exception as error:  # of the caller's own code
            if out_of_memory(error):
                raise
            raise InputError(f"{name}() raises {in_one_line(error)}: mend the function") from error


def _function(name: str, does: str) -> Callable[[], Any]:
    """The function that a name stands for; it can be called without arguments."""
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise InputError(f"{name!r} names no function: give package.module:function")
    sys.path.insert(0, "")  # the working directory, as with `python -m`
    try:
        make = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # of the caller's own code, too
        reason = (
            str(error) if isinstance(error, ImportError | AttributeError) else in_one_line(error)
        )
        raise InputError(
            f"{name} cannot be imported ({reason}): give package.module:function, seen from here"
        ) from error
    finally:
        sys.path.remove("")
    if not callable(make):
        raise InputError(f"{name} is {type(make).__name__}, not a function that {does}")
    try:
        inspect.signature(make).bind()
    except ValueError:  # a compiled function may not tell its arguments
        pass
    except TypeError as error:
        raise InputError(
            f"{name} needs arguments ({error}): name a function that takes none"
        ) from error
    return make
