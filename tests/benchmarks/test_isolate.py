import os

import pytest
import torch

from benchmarks.isolate import isolated

SIZE = 64 * 2**20


def hold(size):
    """A buffer of so many bytes, written to, in a process of its own."""
    buffer = torch.ones(size, dtype=torch.uint8)
    return os.getpid(), torch.get_num_threads(), int(buffer.max())


def fail():
    raise ValueError("as planned")


def test_peak_memory_is_that_of_the_function_alone():
    large = torch.ones(4 * SIZE, dtype=torch.uint8)  # here, and so not in the other process
    found = isolated(hold, SIZE)
    pid, threads, largest = found.result
    assert largest == 1
    assert pid != os.getpid()
    assert threads == torch.get_num_threads()
    assert SIZE <= found.added <= SIZE + 48 * 2**20
    assert found.bytes >= found.added
    del large


def test_errors_come_back():
    with pytest.raises(ValueError, match="as planned"):
        isolated(fail)
