"""Peak memory of a HESD, each side in a process of its own."""

import subprocess
import sys

import pytest

STEPS = 100
SCRIPT = """
import resource, sys, torch, lla
model = torch.nn.Sequential(
    torch.nn.Linear(784, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 512), torch.nn.ReLU(),
    torch.nn.Linear(512, 10),
)
x, y = torch.rand(64, 784), torch.randint(0, 10, (64,))
H = lla.HessianOperator(lla.Problem(model, (x, y)), route=sys.argv[1] or None)
lla.spectral_density(H, probes=2, steps=int(sys.argv[2]))
print(H.shape[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(route: str, steps: int) -> tuple[int, int]:
    """Parameters, and peak resident bytes of a process that makes a spectrum of so many steps."""
    command = [sys.executable, "-c", SCRIPT, route, str(steps)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    size, bytes_ = map(int, out.split())
    return size, bytes_


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("route", ["", "fresh"], ids=["default", "fresh"])
def test_hesd_holds_one_basis_beside_a_product(route):
    size, product = peak(route, 1)
    basis = STEPS * size * 4
    assert basis >= 500e6
    _, hesd = peak(route, STEPS)
    assert hesd <= product + 1.1 * basis + 64 * 2**20
