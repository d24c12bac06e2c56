"""How often a Lanczos step reads a number back to the host, which on a GPU waits for all work."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lla
from lla.hessian.lanczos.process import Lanczos
from lla.probes import rademacher

aten = torch.ops.aten


class HostReads(TorchDispatchMode):
    """Counts numbers read by the host, and copies from one device to another."""

    def __init__(self):
        super().__init__()
        self.scalars = self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.scalars += func is aten._local_scalar_dense.default
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[1] if func is aten.copy_.default else args[0]
            self.copies += source.device != out.device
        return out


def test_what_is_counted():
    with HostReads() as reads:
        assert bool(torch.ones(3).sum() > 2)
        torch.ones(2).to("meta")
        torch.ones(2).clone()
    assert (reads.scalars, reads.copies) == (1, 1)


@pytest.fixture
def process():
    """A process for the Hessian of a small network that has made two steps."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    problem = lla.Problem(model, (torch.randn(6, 5), torch.arange(6) % 3))

    def make(route, runs=1):
        operator = lla.HessianOperator(problem, route=route)
        size = operator.shape[0]
        start = torch.stack([rademacher(size, operator.theta, i) for i in range(runs)])
        made = Lanczos(operator, start, 40)
        made.advance(2)  # the first products check themselves
        return made

    return make


@pytest.mark.parametrize("route", ["linearized", "retained", "fresh"])
@pytest.mark.parametrize("steps", [5, 10])
def test_a_step_on_a_cpu_reads_one_number(process, route, steps):
    """It decides whether a second pass of Gram-Schmidt is needed; the product reads none."""
    made = process(route)
    with HostReads() as reads:
        made.advance(steps)
    assert (reads.scalars, reads.copies) == (steps, 0)


@pytest.mark.parametrize("route", ["linearized", "retained", "fresh"])
@pytest.mark.parametrize("runs", [1, 3])
def test_a_step_on_a_gpu_reads_nothing(process, route, runs, monkeypatch):
    """The branch for a GPU, taken on a CPU."""
    made = process(route, runs)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True), raising=False)
    with HostReads() as reads:
        made.advance(10)
    assert (reads.scalars, reads.copies) == (0, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_itself_sees_no_wait():
    """PyTorch raises an error where the host waits for the GPU."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    batch = torch.randn(6, 5).cuda(), (torch.arange(6) % 3).cuda()
    operator = lla.HessianOperator(lla.Problem(model.cuda(), batch), route="linearized")
    made = Lanczos(operator, rademacher(operator.shape[0], operator.theta, 0)[None], 40)
    made.advance(2)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        made.advance(10)
    finally:
        torch.cuda.set_sync_debug_mode(before)
