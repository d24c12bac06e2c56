"""What each of several processes does in tests/ranks: `python jobs.py JOB RANK COUNT FOLDER`.

The processes meet by a file in the folder, and each writes there what it found. A process of one
makes no group.
"""

import os
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.distributed.fsdp
from torch import nn

import lla
from lla.hessian.lanczos import process

SIZES = (5, 3, 4, 2, 6)  # of the batches: ragged


def network(dropout=0.3, norm=True):
    """A small network with all that differs between modes, in float64 and nowhere trivial."""
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(6)] if norm else []
    model = nn.Sequential(
        nn.Linear(4, 6), *middle, nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3)
    ).double()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def batches():
    """Batches of different sizes."""
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 4, generator=drawn).double(), torch.randint(3, (n,), generator=drawn))
        for n in SIZES
    ]


def numbers(model, data, mode="train", **options):
    """Everything that several processes can measure together, as arrays."""
    problem = lla.Problem(model, data, mode=mode, **options)
    H = lla.HessianOperator(problem)
    v = torch.randn(H.shape[0], 2, generator=torch.Generator().manual_seed(2)).to(H.dtype)
    crit = lla.criteria(model, data, mode, probes=2, steps=8, **options)
    pooled = lla.criteria(model, data, mode, probes=2, steps=8, scope="pooled", **options)
    plane = lla.loss_plane(problem, normalization="filter", steps=12)
    grouped = lla.loss_plane(problem, normalization="filter", steps=2, route="vmap:4")
    pairs = lla.top_eigenpairs(H, 3, "LM", tol=1e-8 if H.dtype == torch.float64 else 1e-5)
    return {
        "loss": problem.loss(), "gradient": problem.gradient(), "product": H @ v,
        "trace": torch.tensor(lla.trace(H, max_matvecs=20, rtol=1e-9).value),
        "hutchinson": torch.tensor(lla.trace(H, rtol=0.3).value),
        "eigenvalues": torch.tensor(pairs.values),
        "bounded": torch.tensor(lla.top_eigenpairs(H, 1, tol=1e-6, basis_size=8).values),
        "plane": torch.tensor(plane.loss), "grouped": torch.tensor(grouped.loss),
        "criteria": torch.tensor([crit.re.value, crit.kh1.value, crit.kh05.stderr]),
        "pooled": torch.tensor([pooled.re.value, pooled.kh1.value, pooled.kh05.stderr]),
        "counts": torch.tensor([crit.batches, pooled.batches, len(crit.spectra), pooled.matvecs]),
    }  # fmt: skip


def same(rank, count):
    """All ranks are given all batches."""
    return numbers(network(), batches())


def shards(rank, count):
    """Each rank is given its own batches: two, then the rest, then none."""
    parts = [batches()[:2], batches()[2:], [], []] if count > 1 else [batches()]
    return numbers(network(), parts[rank])


def single(rank, count):
    """One batch: only one rank has something to do."""
    return numbers(network(), batches()[:1], "eval")


def half(rank, count):
    """In float32, with weights of the batches."""
    data = [(x.float(), y) for x, y in batches()]
    return numbers(network().float(), data, weights=[1.0, 2.0, 3.0, 4.0, 5.0])


def radii(rank, count):
    """The radial index of a minimum."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    data = batches()
    for _ in range(300):
        optimizer.zero_grad()
        sum(nn.functional.cross_entropy(model.eval()(x), y) for x, y in data).backward()
        optimizer.step()
    found = lla.minima.radial_index(lla.Problem(model, data), 0.3, 40)
    return {"radii": torch.tensor(found.radii)}


def refused(rank, count):
    """What one rank refuses, or what needs all batches in one process."""
    model, data, said = network(), batches(), []

    def attempt(call):
        try:
            call()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
        else:
            said.append("")

    bad = [(x.clone(), y) for x, y in data]
    if rank == 1:
        bad[1][0][0, 0] = float("nan")
    attempt(lambda: lla.criteria(model, bad, steps=3))
    attempt(lambda: lla.criteria(model, data, steps=3 if rank else 0))
    attempt(lambda: lla.Problem(model, data if rank else [(data[0][0].float(), data[0][1])]))
    attempt(lambda: lla.flatness(model, data))
    attempt(lambda: lla.criteria(model, data, target_stderr=0.1))
    attempt(lambda: lla.Problem(model, []))
    attempt(lambda: lla.Problem(model, data, mode="train" if rank else "eval"))
    other = network()
    other[0].weight.data += rank
    attempt(lambda: lla.Problem(other, data))
    with lla.alone():
        attempt(lambda: lla.flatness(model, data))
    return {"said": said}


def short(rank, count):
    """Memory runs out on one rank, in a product and before it."""
    H = lla.HessianOperator(lla.Problem(network(), batches()))
    if rank == 1:
        H._own_part = lambda rows: torch.empty(2**60)
    try:
        H @ torch.ones(H.shape[0], dtype=torch.float64)
    except Exception as error:
        return {"said": type(error).__name__}


def ends(rank, count):
    """One rank ends in the middle of the work."""
    H = lla.HessianOperator(lla.Problem(network(), batches()))
    v = torch.ones(H.shape[0], dtype=torch.float64)
    H @ v
    if rank == 1:
        os._exit(0)
    begin = time.monotonic()
    try:
        H @ v
    except lla.RankError as error:
        return {"said": str(error), "seconds": time.monotonic() - begin}


def basis(rank, count):
    """The bytes of the Lanczos basis in this process, over those of all of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 40), nn.Tanh(), nn.Linear(40, 3)).double()
    H = lla.HessianOperator(lla.Problem(model, batches()))
    made = []
    make = process.Basis.__init__

    def noted(self, *args, **kwargs):
        make(self, *args, **kwargs)
        made.append(self._rows.numel() / (20 * H.shape[0]))

    process.Basis.__init__ = noted
    lla.spectral_density(H, probes=1, steps=20)
    return {"shares": made}


def absent(rank, count):
    """Only the first rank measures."""
    if rank > 0:
        time.sleep(8)
        return {}
    lla.ranks.PATIENCE = 2
    try:
        lla.criteria(network(), batches())
    except lla.RankError as error:
        return {"said": str(error)}


def spread(rank, count):
    """A network under FSDP."""
    mesh = distributed.device_mesh.init_device_mesh("cpu", (count,))
    model = network()
    distributed.fsdp.fully_shard(model, mesh=mesh)
    try:
        lla.criteria(model, batches())
    except lla.InputError as error:
        return {"said": str(error)}


def collectives(rank, count):
    """How often ranks meet in a product."""
    H = lla.HessianOperator(lla.Problem(network(), batches()))
    made = []
    reduce = distributed.all_reduce
    distributed.all_reduce = lambda t, *a, **k: (made.append(t.numel()), reduce(t, *a, **k))[1]
    H @ torch.ones(H.shape[0], dtype=torch.float64)
    distributed.all_reduce = reduce
    return {"reductions": made, "size": H.shape[0]}


JOBS = {
    f.__name__: f
    for f in (
        same,
        shards,
        single,
        half,
        radii,
        refused,
        short,
        ends,
        absent,
        spread,
        basis,
        collectives,
    )
}


def main(job, rank, count, folder):
    """Join the group, do the job, write what came out or the error."""
    torch.set_num_threads(1)
    rank, count, folder = int(rank), int(count), Path(folder)
    if count > 1:
        store = distributed.FileStore(str(folder / "meeting"), count)
        distributed.init_process_group(
            "gloo", store=store, rank=rank, world_size=count, timeout=timedelta(seconds=30)
        )
    try:
        found = JOBS[job](rank, count)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    torch.save(found, folder / f"{job}-{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
