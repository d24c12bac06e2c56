"""glibc's allocator, set to keep freed memory instead of returning it to the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def tune_allocator() -> bool:
    """Make this process keep freed memory for its next large tensor.

    By default glibc maps every large buffer anew, and the system zeroes its pages each time. For
    small networks on a CPU this takes about half of the time. The change holds for the whole
    process and cannot be undone, so no import calls this function: the command line and the suites
    do.

    Returns:
        Whether the allocator accepted both settings; False if it is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    # the arguments are C ints; older versions refuse a mapping threshold above 32 MiB
    mapped = any(mallopt(_M_MMAP_THRESHOLD, size) for size in (2**30, 2**25))
    return mapped and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
