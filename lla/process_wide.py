"""What belongs to the whole process, and so to one thread at a time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

# A call of the library changes the user's model, global random states, warning filters and settings
# of torch for its time. One thread at a time does so. It also holds forward mode, which two
# threads cannot be in, and which ends the process if they are.
CALLS = threading.RLock()


@contextmanager
def filtered_warnings(
    action: Literal["ignore", "error"], category: type[Warning] = Warning
) -> Iterator[None]:
    """Ignore warnings of a category, or make them errors; other threads wait.

    >>> with filtered_warnings("ignore"):
    ...     warnings.warn("nobody sees this")
    """
    with CALLS, warnings.catch_warnings():
        warnings.simplefilter(action, category)
        yield
