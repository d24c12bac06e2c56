"""The command `lla`: criteria, planes and minima of a network, the paper's tables, data sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import torch
import typer
from tabulate import tabulate

import lla
from lla import data as datasets
from lla import landscape, level_sets
from lla.arguments import number_of_draws, positive_number, whole_number
from lla.data.pictures import is_bundled
from lla.data.registry import get
from lla.errors import LIBRARY_ERRORS, unknown_name
from lla.files import atomic_write, check_folder
from lla.hessian.accuracy import Over
from lla.hessian.ratios import Reading
from lla.inputs import load_inputs
from lla.landscape.axes import chosen_normalization
from lla.landscape.directions import Distribution
from lla.layers.flatness import Method
from lla.layers.flatness import flatness as flatness_of_layers
from lla.layers.layerwise import layerwise as layerwise_curvature
from lla.level_sets.regularizers import NAMES as REGULARIZERS
from lla.minima.radial import Scan, radial_index
from lla.plotting import check_cap, write_png
from lla.problem import Mode
from lla.report.text import csv_table

app = typer.Typer(
    help="Loss landscapes and Hessian spectra of PyTorch models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="List, fetch and verify data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with the data sets (default: LLA_DATA).")
]


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Show only the message of the library's own errors, without a traceback."""
    try:
        yield
    except LIBRARY_ERRORS as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(2)


# Options that several commands share.
Model = Annotated[
    str, typer.Argument(help="A registered name, or package.module:function that makes one.")
]
Data = Annotated[str, typer.Option(help="Data or picture set; see `lla data list`.")]
Split = Annotated[
    str | None, typer.Option(help="Split of the data set; pictures have none (default: train).")
]
Weights = Annotated[
    str | None, typer.Option(help="A checkpoint, or `pretrained`; without this, random weights.")
]
ModeOption = Annotated[Mode, typer.Option(help="Mode of BatchNorm and dropout.")]
BatchCount = Annotated[int, typer.Option(min=1, help="Number of batches, drawn at random.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in each batch.")]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Side in pixels, of pictures and the input of vision transformers."),
]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and random vectors.")]
Device = Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1, ...")]
Precision = Annotated[Literal["float32", "float64"], typer.Option(help="Type of the products.")]
AxesName = Annotated[Literal["random", "hessian"], typer.Option(help="Axes of the plane.")]
DownloadOption = Annotated[bool, typer.Option(help="Fetch data and weights that are missing.")]


@app.command()
def criteria(
    model: Model,
    data: Data = "mnist",
    split: Split = None,
    weights: Weights = None,
    mode: ModeOption = "eval",
    batches: BatchCount = 2,
    batch_size: BatchSize = 512,
    size: Size = None,
    probes: Annotated[int, typer.Option(help="Random vectors for each batch (n_hes).")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Lanczos steps (m).")] = 100,
    seed: Seed = 0,
    reading: Annotated[Reading, typer.Option(help="What the power 1/2 covers.")] = "product",
    legacy: Annotated[bool, typer.Option(help="Imitate the authors' public code.")] = False,
    pooled: Annotated[bool, typer.Option(help="Take one Hessian of all batches.")] = False,
    parameters: Annotated[
        list[str] | None, typer.Option(help="Parameters to take: glob or re:...; repeatable.")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images in each part of a batch; eval mode only.")
    ] = None,
    target_stderr: Annotated[
        float | None,
        typer.Option(
            help="Relative error to reach in K_H1 and r_e; probes, steps, batches are limits."
        ),
    ] = None,
    over: Annotated[
        Over | None, typer.Option(help="What --target-stderr is over (default: batches).")
    ] = None,
    precision: Precision = "float32",
    device: Device = "cpu",
    data_root: DataRoot = None,
    download: DownloadOption = False,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture and the spectra.")] = None,
) -> None:
    """Compute r_e, K_H1 and K_H05 of a network on a data set, with standard errors."""
    lla.tune_allocator()
    with _one_sentence():
        if over is not None and target_stderr is None:
            raise lla.InputError("--over says what --target-stderr is over: give both, or neither")
        # before the work, not after it
        number_of_draws("probes", probes)
        target = None if target_stderr is None else lla.Target(target_stderr, over or "batches")
        if out is not None:
            check_folder(out)
            _refuse_earlier(out, "spectrum*")
        inputs = load_inputs(
            model, data, split=split, weights=weights, batches=batches, batch_size=batch_size,
            size=size, seed=seed, device=device, dtype=getattr(torch, precision),
            data_root=data_root, download=download,
        )  # fmt: skip
        result = lla.criteria(
            inputs.model,
            inputs.pairs,
            mode=mode,
            probes=probes,
            steps=steps,
            seed=seed,
            reading=reading,
            legacy=legacy,
            scope="pooled" if pooled else "batches",
            parameters=parameters or None,
            micro_batch=micro_batch,
            target_stderr=target,
            progress=sys.stderr.isatty(),
        )
    named = {"r_e": result.re, "K_H1": result.kh1, "K_H05": result.kh05}
    named["negative share"] = result.negative_share
    # with a target some are not measured
    rows = [(label, found.value, found.stderr) for label, found in named.items() if found.n]
    typer.echo(tabulate(rows, headers=("criterion", "value", "stderr"), floatfmt=".4g"))
    typer.echo(
        f"\n{model} on {inputs.text}, {mode} mode, loss {result.loss:.4g}\n"
        f"{result.batches} x {batch_size} images, {result.probes} probes, {result.steps} steps, "
        f"{result.dtype}, "
        f"{result.reading} reading{', legacy' if legacy else ''}; standard error over "
        f"{result.stderr_kind}; {result.matvecs} products by the {result.route} route\n"
        f"plan: {result.plan}"
    )
    if target_stderr is not None:
        word = "met" if result.converged else "not met, see the warning"
        typer.echo(f"standard error of {target_stderr:g}: {word}; probes and steps are the most")
    if out is not None:
        with _one_sentence():
            _save(result, out)


def _refuse_earlier(out: Path, *patterns: str) -> None:
    """Refuse a folder that holds files of an earlier run: some of them would be left there."""
    found = min((path.name for pattern in patterns for path in out.glob(pattern)), default=None)
    if found is not None:
        raise lla.InputError(
            f"{out} holds {found} of an earlier run: name another folder, or empty this one"
        )


@app.command()
def flatness(
    model: Model,
    data: Data = "mnist",
    split: Split = "train",
    weights: Weights = None,
    mode: ModeOption = "eval",
    batches: BatchCount = 1,
    batch_size: BatchSize = 512,
    size: Size = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Layer to measure; repeatable (default: all linear and convolutions)."),
    ] = None,
    method: Annotated[Method, typer.Option(help="How; closed and jacobian are exact.")] = "auto",
    normalize_inputs: Annotated[
        bool, typer.Option(help="Divide the inputs of layers by their standard deviations.")
    ] = False,
    rtol: Annotated[float, typer.Option(help="Relative error that samples have to reach.")] = 0.02,
    max_matvecs: Annotated[int, typer.Option(help="Products at most for a sampled number.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches, samples.")] = 0,
    precision: Precision = "float32",
    device: Device = "cpu",
    data_root: DataRoot = None,
    download: DownloadOption = False,
    out: Annotated[Path | None, typer.Option(help="Folder for numbers and a picture.")] = None,
) -> None:
    """Compute trace and relative flatness of each layer; exact where that is possible."""
    lla.tune_allocator()
    with _one_sentence():
        if out is not None:
            check_folder(out)  # before the work, not after it
            _refuse_earlier(out, "flatness.*")
        inputs = load_inputs(
            model, data, split=split, weights=weights, batches=batches, batch_size=batch_size,
            size=size, seed=seed, device=device, dtype=getattr(torch, precision),
            data_root=data_root, download=download,
        )  # fmt: skip
        result = flatness_of_layers(
            inputs.model, inputs.pairs, layers or None, method=method, mode=mode,
            normalize_inputs=normalize_inputs, rtol=rtol, max_matvecs=max_matvecs, seed=seed,
            progress=sys.stderr.isatty(),
        )  # fmt: skip
    rows = [
        (layer.name, str(layer.trace), str(layer.kappa), str(layer.kappa_diag), layer.method)
        for layer in result
    ]
    headers = ("layer", "trace", "kappa", "diagonal part", "method")
    typer.echo(tabulate(rows, headers=headers, disable_numparse=True))
    typer.echo(
        f"\n{model} on {inputs.text}, {mode} mode, loss {result.loss:.4g}\n"
        f"{result.examples} images, {result.dtype}"
        f"{', inputs normalized' if normalize_inputs else ''}"
    )
    for why in dict.fromkeys(layer.why for layer in result):
        names = [layer.name for layer in result if layer.why == why]
        typer.echo(f"{len(names)} by {result[names[0]].method}: {why}")
    if out is None:
        return
    with _one_sentence():
        out.mkdir(parents=True, exist_ok=True)
        result.save(out / "flatness.npz")
        atomic_write(out / "flatness.csv", csv_table(result.to_frame().reset_index()))
        write_png(result.plot(), out / "flatness.png")
        typer.echo(f"wrote flatness.npz, flatness.csv and flatness.png into {out}")


@app.command()
def layerwise(
    model: Model,
    data: Data = "mnist",
    split: Split = "train",
    weights: Weights = None,
    mode: ModeOption = "eval",
    batches: BatchCount = 1,
    batch_size: BatchSize = 512,
    size: Size = None,
    k: Annotated[int, typer.Option(help="Eigenvectors of each layer, at most its outputs.")] = 10,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Layer to measure; repeatable (default: all linear and convolutions)."),
    ] = None,
    centre: Annotated[
        bool, typer.Option(help="Take the inputs of layers minus their mean.")
    ] = False,
    probes: Annotated[
        int, typer.Option(help="Random vectors for the distance from the approximation.")
    ] = 32,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches, random vectors.")] = 0,
    precision: Precision = "float32",
    device: Device = "cpu",
    data_root: DataRoot = None,
    download: DownloadOption = False,
    out: Annotated[Path | None, typer.Option(help="Folder for numbers and pictures.")] = None,
) -> None:
    """Compute the top eigenvectors of each layer's Hessian, beside a Kronecker product."""
    lla.tune_allocator()
    with _one_sentence():
        # before the work, not after it
        whole_number("k", k, 1)
        number_of_draws("probes", probes, 2)
        if out is not None:
            check_folder(out)
            _refuse_earlier(out, "layerwise.*")
        inputs = load_inputs(
            model, data, split=split, weights=weights, batches=batches, batch_size=batch_size,
            size=size, seed=seed, device=device, dtype=getattr(torch, precision),
            data_root=data_root, download=download,
        )  # fmt: skip
        result = layerwise_curvature(
            inputs.model, inputs.pairs, k, layers or None, mode=mode, centre=centre,
            probes=probes, seed=seed, progress=sys.stderr.isatty(),
        )  # fmt: skip
    rows = [
        (layer.name, f"{layer.eigenvalues[0]:.4g}", f"{layer.rank_one.mean():.2f}",
         f"{layer.mean_cosine.mean():.2f}", f"{layer.kronecker_overlap[-1]:.2f}",
         f"{layer.baseline[-1]:.2g}", str(layer.frobenius_error), layer.outliers)
        for layer in result
    ]  # fmt: skip
    headers = (
        "layer", "eigenvalue", "first singular", "cos E[x]", "Kronecker overlap", "random",
        "distance", "outliers",
    )  # fmt: skip
    typer.echo(tabulate(rows, headers=headers, disable_numparse=True))
    typer.echo(
        f"\n{model} on {inputs.text}, {mode} mode, loss {result.loss:.4g}\n"
        f"{result.examples} images, {result.dtype}; {k} eigenvectors a layer of the {result.matrix}"
    )
    for why in dict.fromkeys(layer.why for layer in result if layer.why):
        names = [layer.name for layer in result if layer.why == why]
        typer.echo(f"{', '.join(names)}: {why}")
    if out is None:
        return
    with _one_sentence():
        out.mkdir(parents=True, exist_ok=True)
        result.save(out / "layerwise.npz")
        atomic_write(out / "layerwise.csv", csv_table(result.to_frame().reset_index()))
        write_png(result.plot(), out / "layerwise.png")
        typer.echo(f"wrote layerwise.npz, layerwise.csv and layerwise.png into {out}")


@app.command()
def minima(
    model: Model,
    data: Data = "mnist",
    split: Split = "train",
    weights: Weights = None,
    batches: BatchCount = 1,
    batch_size: BatchSize = 512,
    size: Size = None,
    cutoff: Annotated[float, typer.Option(help="Loss at which a direction ends.")] = 0.1,
    directions: Annotated[int, typer.Option(help="Random directions.")] = 250,
    reach: Annotated[
        float, typer.Option(help="Largest distance, in units of the weights of each filter.")
    ] = 100.0,
    scan: Annotated[
        Scan, typer.Option(help="Whether earlier directions say where to begin.")
    ] = "informed",
    seed: Annotated[int, typer.Option(help="Seed of weights, batches, directions.")] = 0,
    precision: Precision = "float32",
    device: Device = "cpu",
    data_root: DataRoot = None,
    download: DownloadOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for numbers and a picture; a killed run continues.")
    ] = None,
) -> None:
    """Compute how far random directions lead from a minimum before the loss is too large."""
    lla.tune_allocator()
    with _one_sentence():
        # before the work, not after it
        whole_number("directions", directions, 1)
        if out is not None:
            check_folder(out)
            _refuse_earlier(out, "radii.*")
        inputs = load_inputs(
            model, data, split=split, weights=weights, batches=batches, batch_size=batch_size,
            size=size, seed=seed, device=device, dtype=getattr(torch, precision),
            data_root=data_root, download=download,
        )  # fmt: skip
        problem = lla.Problem(inputs.model, inputs.pairs)
        unfinished = None if out is None else out / "unfinished.npz"
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        result = radial_index(
            problem, cutoff, directions, reach=reach, scan=scan, seed=seed,
            checkpoint=unfinished, progress=sys.stderr.isatty(),
        )  # fmt: skip
    low, high = result.interval
    bound = "at least " if result.censored else ""
    rows = [
        ("mean radius", f"{bound}{result.mean}"),
        ("standard deviation", f"{result.sd:.4g}"),
        ("largest radius", f"{bound}{result.maximum:.4g}"),
        ("log10 radial index", f"{bound}{result.log10_index:.6g} [{low:.6g}, {high:.6g}]"),
        ("of both halves", "{:.6g}, {:.6g}".format(*result.halves)),
        ("Jensen's lower bound", f"{result.log10_jensen:.6g}"),
        ("censored", f"{result.censored} of {directions}"),
    ]
    typer.echo(tabulate(rows, headers=("radial index", ""), disable_numparse=True))
    typer.echo(
        f"\n{model} on {inputs.text}, eval mode, loss {result.loss:.4g}, cutoff {cutoff:g}\n"
        f"{result.examples} images, {result.n} weights move, {result.evaluations} evaluations of "
        f"the loss by the {result.route} route, {result.dtype}\n{result.warning}"
    )
    if out is None:
        return
    with _one_sentence():
        write_png(result.plot(), out / "radii.png")
        result.save(out / "radii.npz")  # last: a folder with this file is complete
        (out / "unfinished.npz").unlink()
        typer.echo(f"wrote radii.npz and radii.png into {out}")


@app.command("level-set")
def level_set(
    model: Model,
    data: Data = "mnist",
    split: Split = "train",
    weights: Weights = None,
    batches: BatchCount = 1,
    batch_size: BatchSize = 512,
    size: Size = None,
    level: Annotated[
        str, typer.Option(help="Training loss of all points: a number, or `present`.")
    ] = "present",
    regularizer: Annotated[
        str, typer.Option(help=f"What is to fall: {', '.join(REGULARIZERS)}; or free.")
    ] = "l2",
    steps: Annotated[int, typer.Option(help="Steps at most.")] = 100,
    tol: Annotated[float, typer.Option(help="Largest |loss / level - 1| of a point.")] = 0.02,
    measured: Annotated[
        list[str] | None,
        typer.Option(help="Regularizer to note at each point; repeatable (default: two norms)."),
    ] = None,
    test_images: Annotated[
        int, typer.Option(min=0, help="Images of the test split to measure at each point.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches, a free direction.")] = 0,
    precision: Precision = "float64",
    device: Device = "cpu",
    data_root: DataRoot = None,
    download: DownloadOption = False,
    out: Annotated[Path, typer.Option(help="Folder for the walk and a picture.")] = Path("walk"),
) -> None:
    """Walk at constant training loss to where a regularizer is small; it can be interrupted."""
    lla.tune_allocator()
    with _one_sentence():
        # before the work, not after it
        wanted = _level(level)
        for name in (*(() if regularizer == "free" else (regularizer,)), *(measured or ())):
            if name not in REGULARIZERS:
                raise unknown_name("regularizer", name, (*REGULARIZERS, "free"))
        unfinished = out / "unfinished.npz"
        check_folder(out)
        _refuse_earlier(out, "walk.*")
        place: dict[str, Any] = {
            "weights": weights, "seed": seed, "device": device, "data_root": data_root,
            "dtype": getattr(torch, precision), "download": download, "size": size,
        }  # fmt: skip
        inputs = load_inputs(
            model, data, split=split, batches=batches, batch_size=batch_size, **place
        )
        test = None
        if test_images:
            test = load_inputs(model, data, split="test", batch_size=test_images, **place).pairs
        out.mkdir(parents=True, exist_ok=True)
        path = level_sets.walk(
            lla.Problem(inputs.model, inputs.pairs), wanted,
            None if regularizer == "free" else regularizer, steps=steps, tol=tol,
            measured=measured or ("l2", "smooth_l1"), test=test, seed=seed,
            checkpoint=unfinished, progress=sys.stderr.isatty(),
        )  # fmt: skip
        atomic_write(out / "walk.csv", csv_table(path.to_frame().reset_index()))
        write_png(path.plot(), out / "walk.png")
        path.save(out / "walk.npz")  # last: a folder with this file is complete
        unfinished.unlink()
    frame = path.to_frame()
    shown = [name for name in frame if name not in LEFT_OUT and frame[name].notna().any()]
    rows = [(name, frame[name].iloc[0], frame[name].iloc[-1]) for name in shown]
    typer.echo(tabulate(rows, headers=("", "start", "end"), floatfmt=".4g"))
    typer.echo(
        f"\n{model} on {inputs.text}\n{len(path)} points at the loss {path.level:.4g} within "
        f"{path.deviation:.1g}, {path.walked}: {path.stopped}\n{frame['gradients'].iloc[-1]} "
        f"gradients of the loss, {path.rejection_rate:.0%} of the steps rejected\nwrote walk.npz, "
        f"walk.csv and walk.png into {out}"
    )


LEFT_OUT = ("step", "corrections", "rejected", "gradients", "regularizer_gradients", "multiplier")


def _level(given: str) -> float | Literal["present"]:
    """A level of the loss from the command line."""
    if given == "present":
        return "present"
    try:
        return positive_number("level", float(given))
    except ValueError as error:
        raise lla.InputError(
            f"--level is {given!r}: give a positive number, or 'present'"
        ) from error


def _save(result: lla.Criteria, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, spectrum in enumerate(result.spectra):
        spectrum.save(folder / f"spectrum_{index}.npz")
    picture = folder / "spectrum.png"
    write_png(result.spectra[0].plot(label="batch 0"), picture)
    typer.echo(f"wrote {picture} and {len(result.spectra)} spectra beside it")


_PLANE_PICTURES = ("contour.png", "surface.png", "line.png", "accuracy.png")


@app.command()
def plane(
    model: Model,
    data: Data = "mnist",
    split: Split = None,
    weights: Weights = None,
    mode: ModeOption = "eval",
    batches: BatchCount = 1,
    batch_size: BatchSize = 512,
    size: Size = None,
    axes: AxesName = "random",
    distribution: Annotated[
        Distribution | None, typer.Option(help="Distribution of random axes (default: normal).")
    ] = None,
    normalization: Annotated[
        str, typer.Option(help="auto, output, filter, layer, model, weight or none.")
    ] = "auto",
    steps: Annotated[int, typer.Option(help="Steps along an axis; even.")] = 40,
    distance: Annotated[float, typer.Option(help="Length of an axis.")] = 1.0,
    accuracy: Annotated[bool, typer.Option(help="Also compute the accuracy.")] = False,
    recalibrate: Annotated[
        bool, typer.Option(help="Estimate BatchNorm's statistics anew at each point.")
    ] = False,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Parameters to freeze: glob or re:...; repeatable.")
    ] = None,
    cap: Annotated[float | None, typer.Option(help="Highest loss in the pictures.")] = None,
    seed: Seed = 0,
    precision: Precision = "float32",
    device: Device = "cpu",
    data_root: DataRoot = None,
    download: DownloadOption = False,
    out: Annotated[Path, typer.Option(help="Folder for plane and pictures.")] = Path("plane"),
) -> None:
    """Evaluate and draw the loss around a network's weights; an interrupted run continues."""
    lla.tune_allocator()
    with _one_sentence():
        # before the work, not after it
        check_cap(cap)
        landscape.grid(steps, distance)
        if distribution is not None and axes != "random":
            raise lla.InputError(
                f"--distribution is that of random axes, not of {axes} ones: leave it out"
            )
        scaling = None if normalization == "none" else normalization
        chosen_normalization(landscape.RandomAxes(), scaling)  # type: ignore[arg-type]
        unfinished = out / "unfinished.npz"
        check_folder(out)
        # pictures beside an unfinished plane are of the same plane
        _refuse_earlier(out, "plane.npz", *(() if unfinished.exists() else _PLANE_PICTURES))
        inputs = load_inputs(
            model, data, split=split, weights=weights, batches=batches, batch_size=batch_size,
            size=size, seed=seed, device=device, dtype=getattr(torch, precision),
            data_root=data_root, download=download,
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        result = lla.loss_plane(
            lla.Problem(inputs.model, inputs.pairs, mode=mode),
            landscape.RandomAxes(distribution or "normal") if axes == "random" else axes,
            normalization=scaling,  # type: ignore[arg-type]
            steps=steps,
            distance=distance,
            scalars={"accuracy": landscape.accuracy} if accuracy else None,
            recalibrate=recalibrate,
            freeze=freeze or None,
            seed=seed,
            checkpoint=unfinished,
            progress=sys.stderr.isatty(),
        )
        for kind in ("contour", "surface", "line"):
            write_png(result.plot(kind, cap=cap), out / f"{kind}.png")
        if accuracy:
            write_png(result.plot(scalar="accuracy"), out / "accuracy.png")
        result.save(out / "plane.npz")  # last: a folder with this file is complete
        unfinished.unlink()
    found = result.explosion()
    lowest = ", ".join(f"{value:g}" for value in result.minimum)
    typer.echo(
        f"{model} on {inputs.text}, {mode} mode, {result.axes} axes, normalization "
        f"{result.normalization}\nloss {result.center:.4g} at the weights; largest on the plane "
        f"{found.ratio:.4g} times max(loss, ln C)"
        f"{f', {found.nonfinite} points not finite' if found.nonfinite else ''}: {found.verdict}; "
        f"lowest at ({lowest})\nwrote plane.npz and pictures into {out}"
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def tables(context: typer.Context) -> None:
    """Regenerate the paper's tables in a checkout; options go to pytest (--list-cells, -k, ...)."""
    suite = Path("paper_tables")
    if not (suite / "conftest.py").is_file():
        _fail("there is no folder paper_tables here: run this in a checkout of the project")
    command = [sys.executable, "-m", "pytest", "-q", str(suite), *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@data_app.command("list")
def data_list(data_root: DataRoot = None) -> None:
    """Show every data set: whether it is here, how faithful, and what to do if it is not."""
    with _one_sentence():
        rows = [
            (item.name, item.split, item.source or "missing", item.fidelity or "", item.note)
            for item in (*datasets.describe(data_root), *datasets.describe_pictures(data_root))
        ]
    typer.echo(tabulate(rows, headers=("name", "split", "source", "fidelity", "note")))


def _refuse_idle_root(name: str, data_root: Path | None) -> None:
    """Refuse a data root for a set that has no files."""
    if data_root is not None and is_bundled(name):
        raise lla.InputError(f"--data-root is not read for {name}, which is bundled: leave it out")


@data_app.command("fetch")
def data_fetch(
    name: str,
    split: Annotated[
        list[str] | None, typer.Option(help="Split; repeatable (default: train and test).")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Download a data set and check it."""
    with _one_sentence():
        _refuse_idle_root(name, data_root)
        known = get(name).splits
        if unknown := [each for each in split or () if each not in known]:
            raise lla.InputError(
                f"data set {name!r} has no split {unknown[0]!r}: choose from {', '.join(known)}"
            )
        splits = tuple(split or ("train", "test"))
        folder = datasets.fetch(name, data_root, splits, progress=sys.stderr.isatty())
    typer.echo(f"{name} is in {folder}")


@data_app.command("verify")
def data_verify(name: str, data_root: DataRoot = None) -> None:
    """Check the files of a data set against their checksums."""
    with _one_sentence():
        _refuse_idle_root(name, data_root)
        checks = datasets.verify(name, data_root)
        if is_bundled(name):
            typer.echo(f"{name} is bundled: it has no files to check")
            return
        if not checks:
            raise lla.InputError(
                f"no file of {name} is found: give --data-root, or get them with `lla data fetch "
                f"{name}`"
            )
    typer.echo(tabulate([(c.path.name, c.state, c.message) for c in checks], tablefmt="plain"))
    if any(check.state != "right" for check in checks):
        raise typer.Exit(1)


@data_app.command("check-pictures")
def data_check_pictures(
    folder: Annotated[
        Path, typer.Argument(help="Folder with labels.csv, or with subfolders named by wnid.")
    ],
) -> None:
    """Check a folder of pictures: readable, RGB, labelled, none twice, none of an odd shape."""
    with _one_sentence():
        checks = datasets.check_pictures(folder)
    rows = [(c.file, c.state, c.message) for c in checks if c.state != "right"]
    if rows:
        typer.echo(tabulate(rows, headers=("picture", "state", "what")) + "\n")
    files = {
        state: {c.file for c in checks if c.state == state} for state in ("right", "odd", "wrong")
    }
    typer.echo(", ".join(f"{len(names)} {state}" for state, names in files.items()))
    if files["wrong"]:
        raise typer.Exit(1)
