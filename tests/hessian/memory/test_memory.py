"""Peak memory of a HESD, each side in a process of its own.

Read from VmHWM and not from ru_maxrss, which starts at what the parent held: a child of a long
pytest session would seem to need as much.
"""

import functools
import json
import os
import subprocess
import sys

import pytest

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is read from /proc")

STEPS = 100
SCRIPT = """
import sys, torch, lla, paper_tables.engine.machine
model = torch.nn.Sequential(
    torch.nn.Linear(784, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 512), torch.nn.ReLU(),
    torch.nn.Linear(512, 10),
)
x, y = torch.rand(64, 784), torch.randint(0, 10, (64,))
H = lla.HessianOperator(lla.Problem(model, (x, y)), route=sys.argv[1] or None)
lla.spectral_density(H, probes=2, steps=int(sys.argv[2]))
print(H.shape[0], paper_tables.engine.machine.peak_memory())
"""


def peak(route: str, steps: int) -> tuple[int, int]:
    """Parameters, and peak resident bytes of a process that makes a spectrum of so many steps."""
    command = [sys.executable, "-c", SCRIPT, route, str(steps)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    size, bytes_ = map(int, out.split())
    return size, bytes_


@LINUX
@pytest.mark.parametrize("route", ["", "fresh"], ids=["default", "fresh"])
def test_hesd_holds_one_basis_beside_a_product(route):
    size, product = peak(route, 1)
    basis = STEPS * size * 4
    assert basis >= 500e6
    _, hesd = peak(route, STEPS)
    assert hesd <= product + 1.1 * basis + 64 * 2**20


CRITERIA = """
import json, sys, time, torch, lla, lla.models, paper_tables.engine.machine
options, network, n, side = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
if network == "cnn":  # six layers whose activations are large and whose weights are few
    layers = [torch.nn.Conv2d(c, 16, 3, padding=1) for c in (3, 16, 16, 16, 16, 16)]
    head = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 10)
    model = torch.nn.Sequential(*(m for l in layers for m in (l, torch.nn.Tanh())), *head)
else:
    model = lla.models.build(network, num_classes=1000)
x, y = torch.randn(n, 3, side, side), torch.randint(0, 10, (n,))
small = torch.nn.Linear(3, 3), (torch.rand(4, 3), torch.tensor([0, 1, 2, 0]))
lla.criteria(*small, probes=1, steps=2)  # loads the libraries
start, found = time.perf_counter(), {}
if options:
    crit = lla.criteria(model, (x, y), probes=1, **options)
    found = {"plan": crit.plan, "size": crit.spectra[0].size, "kh1": crit.kh1.value}
found["seconds"] = time.perf_counter() - start
print(json.dumps({"peak": paper_tables.engine.machine.peak_memory(), **found}))
"""


@functools.cache
def of_criteria(network="cnn", n=32, side=64, **options):
    """Peak resident bytes of a process that computes criteria, and by which plan; or of none."""
    command = [sys.executable, "-c", CRITERIA, json.dumps(options), network, str(n), str(side)]
    # glibc gives freed memory back at once, so that a peak is what is in use and not what is kept
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    return json.loads(out.splitlines()[-1])


@LINUX
def test_micro_batches_take_the_memory_of_their_size():
    nothing = of_criteria()["peak"]
    whole = of_criteria(steps=3, route="fresh")
    eighth = of_criteria(steps=3, route="fresh", micro_batch=4)
    alone = of_criteria(n=4, steps=3, route="fresh")
    # a batch has 32 examples x 6 layers x 16 channels x 64 x 64 activations of 4 bytes
    activations = 32 * 6 * 16 * 64 * 64 * 4
    assert whole["peak"] - nothing > 1.25 * activations  # 1.9 to 2.7 seen, by the allocator
    # a pass without a graph still takes the whole batch, layer by layer
    assert eighth["peak"] < alone["peak"] + activations / 2
    assert eighth["kh1"] == pytest.approx(whole["kh1"], rel=1e-3)


@LINUX
@pytest.mark.parametrize("mib", [100, 250])
def test_a_given_memory_is_kept_to(mib):
    nothing = of_criteria()["peak"]
    found = of_criteria(steps=3, memory=mib * 2**20)
    assert "micro-batches" in found["plan"]
    # an estimate and no limit: by the allocator 2 % above it was seen
    assert found["peak"] - nothing <= 1.25 * mib * 2**20


@LINUX
@pytest.mark.skipif("LLA_SLOW" not in os.environ, reason="ten minutes on two cores: set LLA_SLOW")
@pytest.mark.timeout(2 * 3600)
def test_vit_b_16_at_batch_64_fits_into_24_gib():
    found = of_criteria("vit_base_patch16_224", 64, 224, steps=2, memory=16 * 2**30)
    assert found["size"] == 86_567_656
    assert found["peak"] < 24 * 2**30, found
