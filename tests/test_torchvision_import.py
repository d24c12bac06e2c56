import subprocess
import sys
import types

import pytest

from lla import _torchvision


def run(code):
    """Run code in a fresh interpreter in which every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )


def test_fresh_import_works_from_threads_and_after_a_failed_plain_import():
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
try:
    import torchvision              # fails beside a CPU build of torch
except RuntimeError:
    assert "torchvision" not in sys.modules
from lla._torchvision import import_torchvision
with ThreadPoolExecutor(4) as pool:
    modules = set(pool.map(lambda _: import_torchvision(), range(8)))
assert len(modules) == 1
import torch, torchvision
assert modules == {torchvision}
model = torchvision.models.squeezenet1_1(weights=None)
assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
assert torchvision.transforms.functional.pad(torch.ones(1, 2, 2), 1).shape == (1, 4, 4)
import timm
print("done")
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


def test_second_call_returns_the_same_module_and_declares_nothing():
    first = _torchvision.import_torchvision()
    library = _torchvision._library
    assert _torchvision.import_torchvision() is first
    assert _torchvision._library is library


def test_a_plain_import_that_works_declares_nothing(monkeypatch):
    module = types.ModuleType("torchvision")
    monkeypatch.setattr(_torchvision, "_library", None)
    monkeypatch.setattr(_torchvision, "_import", lambda: module)
    assert _torchvision.import_torchvision() is module
    assert _torchvision._library is None


def test_other_errors_pass_through(monkeypatch):
    def broken():
        raise RuntimeError("compiled with different CUDA major versions")

    monkeypatch.setattr(_torchvision, "_import", broken)
    monkeypatch.setattr(_torchvision, "_declare", lambda: pytest.fail("declared"))
    with pytest.raises(RuntimeError, match="different CUDA"):
        _torchvision.import_torchvision()
