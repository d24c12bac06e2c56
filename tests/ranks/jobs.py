"""What each of several processes does in tests/ranks: `python jobs.py JOB RANK COUNT FOLDER`.

The processes meet by a file in the folder, and each writes there what it found. A process of one
makes no group.
"""

import contextlib
import os
import sys
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.distributed.fsdp
import torch.distributed.tensor
from torch import nn

import lla
from lla.finite_differences import product_by_differences
from lla.hessian.lanczos import process
from lla.hessian.quadrature import quadrature
from lla.landscape.plane_values import PlaneValues

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


def batches(seed=1):
    """Batches of different sizes."""
    drawn = torch.Generator().manual_seed(seed)
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
    scaled = lla.loss_plane(problem, steps=4)
    grouped = lla.loss_plane(problem, normalization="filter", steps=2, route="vmap:4")
    pairs = lla.top_eigenpairs(H, 3, "LM", tol=1e-8 if H.dtype == torch.float64 else 1e-5)
    return {
        "loss": problem.loss(), "gradient": problem.gradient(), "product": H @ v,
        "trace": torch.tensor(lla.trace(H, max_matvecs=20, rtol=1e-9).value),
        "hutchinson": torch.tensor(lla.trace(H, rtol=0.3).value),
        "eigenvalues": torch.tensor(pairs.values),
        "bounded": torch.tensor(lla.top_eigenpairs(H, 1, tol=1e-6, basis_size=8).values),
        "plane": torch.tensor(plane.loss), "grouped": torch.tensor(grouped.loss),
        "scaled": torch.tensor(scaled.loss),
        "criteria": torch.tensor([crit.re.value, crit.kh1.value, crit.kh05.stderr]),
        "pooled": torch.tensor([pooled.re.value, pooled.kh1.value, pooled.kh05.stderr]),
        "counts": torch.tensor([crit.batches, pooled.batches, len(crit.spectra), pooled.matvecs]),
    }  # fmt: skip


def same(rank, count):
    """All ranks are given all batches."""
    return numbers(network(), batches())


def aimed(rank, count):
    """As many batches and probes as a stated error takes."""
    model, found = network(), {}
    many = [pair for i in range(3) for pair in batches(seed=i)]
    for over in ("probes", "batches"):
        for scope in ("batches", "pooled"):
            target = lla.Target(0.5, over=over)
            crit = lla.criteria(model, many, probes=5, steps=9, scope=scope, target_stderr=target)
            a = crit.adaptive
            found[f"{over}, {scope}"] = torch.tensor(
                [crit.re.value, crit.kh1.value, crit.kh1.stderr, crit.matvecs, len(crit.spectra),
                 sum(a.probes), len(a.stopped)]
            )  # fmt: skip
    return found


def aimed_shards(rank, count):
    """The same, where each rank has batches of its own; all of them are measured."""
    parts = [batches()[:2], batches()[2:], [], []] if count > 1 else [batches()]
    target = lla.Target(1e-9, over="probes")
    warnings.simplefilter("ignore")
    crit = lla.criteria(network(), parts[rank], probes=2, steps=8, target_stderr=target)
    return {"criteria": torch.tensor([crit.re.value, crit.kh1.value, crit.matvecs])}


def calibrated(rank, count):
    """Planes with BatchNorm estimated anew at every point, from these batches and from others."""
    problem = lla.Problem(network(), batches(), mode="eval")
    other = batches(seed=5)
    own = other[rank :: max(2, count)] if count > 1 else other
    planes = {
        "these": lla.loss_plane(problem, steps=4, recalibrate=True),
        "others": lla.loss_plane(problem, steps=4, recalibrate=other),
        "parts of others": lla.loss_plane(problem, steps=4, recalibrate=own),
    }
    return {name: torch.tensor(plane.loss) for name, plane in planes.items()}


def kept(rank, count):
    """An interrupted plane and search go on from their checkpoints."""
    model = network()
    problem = lla.Problem(model, batches(), mode="eval")
    file, radii = FOLDER / "plane.npz", FOLDER / "radii.npz"
    seen = []
    put = PlaneValues.put

    def stopping(self, indices, *rest):
        put(self, indices, *rest)
        seen.append(len(indices))
        if sum(seen) > 100:
            raise KeyboardInterrupt

    PlaneValues.put = stopping
    with contextlib.suppress(KeyboardInterrupt):
        lla.loss_plane(problem, steps=12, checkpoint=file)
    seen.clear()
    PlaneValues.put = put
    again = lla.loss_plane(problem, steps=12, checkpoint=file)
    PlaneValues.put = lambda self, indices, *rest: seen.append(len(indices))
    lla.loss_plane(problem, steps=12, checkpoint=file)
    whole = {"plane": torch.tensor(again.loss), "evaluated again": torch.tensor(len(seen))}
    for _ in range(2):
        found = lla.minima.radial_index(problem, 5.0, 10, checkpoint=radii)
        whole[f"radii {_}"] = torch.tensor(found.radii)
    whole["examples"] = torch.tensor(found.examples)
    return whole


def dies(rank, count):
    """One process dies at its second batch; the first one finishes its own."""
    folder = FOLDER.parent / "batches"
    folder.mkdir(exist_ok=True)
    calls = []

    def counted(*args, **options):
        calls.append(1)
        if rank == 1 and len(calls) == 2:
            os._exit(0)
        return quadrature(*args, **options)

    lla.hessian.criteria.criteria.quadrature = counted
    try:
        lla.criteria(network(), batches(), probes=2, steps=6, checkpoint=folder)
    except lla.RankError as error:
        return {"said": str(error)}


def goes_on(rank, count):
    """The same call again."""
    calls = []

    def counted(*args, **options):
        calls.append(1)
        return quadrature(*args, **options)

    lla.hessian.criteria.criteria.quadrature = counted
    crit = lla.criteria(
        network(), batches(), probes=2, steps=6, checkpoint=FOLDER.parent / "batches"
    )
    return {"calls": len(calls), "re": crit.re.value, "kh1": crit.kh1.value, "route": crit.route}


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
    attempt(lambda: lla.layerwise(model, data, k=2))
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


def differences(rank, count):
    """A product under FSDP, against the explicit Hessian of the plain network."""
    plain = network()
    data = batches()[:4]
    H = lla.HessianOperator(lla.Problem(plain, data, mode="eval"))
    drawn = torch.Generator().manual_seed(7)
    v = torch.randn(H.shape[0], generator=drawn).double()
    parts = H.problem.space.unflatten(v)
    model = network()
    mesh = distributed.device_mesh.init_device_mesh("cpu", (count,))
    distributed.fsdp.fully_shard(model[0], mesh=mesh)
    distributed.fsdp.fully_shard(model, mesh=mesh)
    like = dict(model.named_parameters())
    spread = {
        name: distributed.tensor.distribute_tensor(part, mesh, like[name].placements)
        for name, part in parts.items()
    }
    found = product_by_differences(model, data[rank::count], spread)
    product = torch.cat([found.product[name].full_tensor().flatten() for name in parts])
    same = [
        torch.equal(p.full_tensor(), q)
        for p, q in zip(like.values(), plain.parameters(), strict=True)
    ]
    said = ""
    try:
        product_by_differences(model, data[: rank + 1], spread)
    except lla.InputError as error:
        said = str(error)
    plain_said = ""
    try:
        product_by_differences(plain, data[rank::count], parts)
    except lla.InputError as error:
        plain_said = str(error)
    exact = H @ v
    off = ((product - exact).norm() / exact.norm()).item()
    return {"off": off, "error": found.error, "same": all(same), "said": said,
            "plain": plain_said}  # fmt: skip


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
        aimed,
        aimed_shards,
        calibrated,
        kept,
        dies,
        goes_on,
        shards,
        single,
        half,
        radii,
        refused,
        short,
        ends,
        absent,
        spread,
        differences,
        basis,
        collectives,
    )
}


def main(job, rank, count, folder):
    """Join the group, do the job, write what came out or the error."""
    global FOLDER
    torch.set_num_threads(1)
    rank, count, folder = int(rank), int(count), Path(folder)
    FOLDER = folder
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
    sys.stdout.flush()
    sys.stderr.flush()
    # threads of gloo that wait for a rank which has ended would abort an ordinary end
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
