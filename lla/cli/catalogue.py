"""Commands on what there is here: models, data, doctor."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from tabulate import tabulate

import lla
from lla import data as datasets
from lla import models as networks
from lla.cli.command import LIST_WIDTH, DataRoot, app, one_sentence
from lla.data.pictures import is_bundled
from lla.data.registry import get
from lla.errors import InputError
from lla.free_memory import available_memory

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

data_app = typer.Typer(help="List, fetch and check data sets and pictures.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _list(rows: Sequence[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    """A list whose last column is wrapped, so that it fits the width of lists."""
    taken = sum(
        max(len(str(row[i])) for row in [*rows, headers]) + 4 for i in range(len(headers) - 1)
    )
    width = max(20, LIST_WIDTH - taken)
    wrapped = [(*row[:-1], textwrap.fill(str(row[-1]), width)) for row in rows]
    return tabulate(wrapped, headers=headers, disable_numparse=True)


@app.command()
def models(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """List the networks that have a name here, and the weights that are found."""
    with one_sentence(as_json):
        found = {}
        for name in dict.fromkeys((*networks.names(), *networks.pretrained_names())):
            size = None
            if name in networks.names():
                with torch.device("meta"):
                    size = sum(p.numel() for p in networks.build(name).parameters())
            known = name in networks.pretrained_names()
            source = networks.find_pretrained(name, data_root) if known else None
            found[name] = {
                "parameters": size,
                "weights": None if source is None else source.file,
                "fidelity": None if source is None else source.fidelity,
                "note": "random weights" if source is None else source.advice or source.note,
            }
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        (name, f"{each['parameters']:,}" if each["parameters"] else "", str(each["note"]))
        for name, each in found.items()
    ]
    typer.echo(_list(rows, ("name", "parameters", "weights")))
    typer.echo(
        "\nBesides: timm:NAME, torchvision:NAME, hf:FOLDER (transformers),\nand your own "
        "package.module:function"
    )


@data_app.command("list")
def data_list(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Show every data set: whether it is here, how faithful it is, and how to get it."""
    with one_sentence(as_json):
        found = (*datasets.describe(data_root), *datasets.describe_pictures(data_root))
    if as_json:
        keys = ("name", "split", "source", "fidelity", "note")
        typer.echo(json.dumps([{key: getattr(item, key) for key in keys} for item in found]))
        return
    rows = [
        (item.name, item.split, _where(item.source), item.fidelity or "", item.note)
        for item in found
    ]
    typer.echo(_list(rows, ("name", "split", "source", "fidelity", "note")))


def _where(source: str | None) -> str:
    """Where a data set is, in words."""
    return "not here" if source is None else "can be fetched" if source == "download" else source


def _refuse_idle_root(name: str, data_root: Path | None) -> None:
    """Refuse a data root for a set that has no files."""
    if data_root is not None and is_bundled(name):
        raise InputError(f"--data-root is not read for {name}, which is bundled: leave it out")


@data_app.command("fetch")
def data_fetch(
    name: str,
    split: Annotated[
        list[str] | None, typer.Option(help="Split; repeatable (default: train and test).")
    ] = None,
    data_root: DataRoot = None,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Download a data set and check it."""
    with one_sentence():
        _refuse_idle_root(name, data_root)
        known = get(name).splits
        if unknown := [each for each in split or () if each not in known]:
            raise InputError(
                f"data set {name!r} has no split {unknown[0]!r}: choose from {', '.join(known)}"
            )
        splits = tuple(split or ("train", "test"))
        shown = not quiet and typer.get_text_stream("stderr").isatty()
        folder = datasets.fetch(name, data_root, splits, progress=shown)
    typer.echo(f"{name} is in {folder}")


@data_app.command("verify")
def data_verify(name: str, data_root: DataRoot = None) -> None:
    """Check the files of a data set against their checksums."""
    with one_sentence():
        _refuse_idle_root(name, data_root)
        checks = datasets.verify(name, data_root)
        if is_bundled(name):
            typer.echo(f"{name} is bundled: it has no files to check")
            return
        if not checks:
            raise InputError(
                f"no file of {name} is found: give --data-root, or get them with `lla data fetch "
                f"{name}`"
            )
    typer.echo(tabulate([(c.path.name, c.state, c.message) for c in checks], tablefmt="plain"))
    if any(check.state != "right" for check in checks):
        raise typer.Exit(1)


@data_app.command("check-pictures")
def data_check_pictures(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with labels.csv, or with subfolders named by wnid, as n02123045."
        ),
    ],
) -> None:
    """Check that pictures are readable, RGB, labelled, all different, and of a usual shape."""
    with one_sentence():
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


# optional package -> what it is for
_OPTIONAL = {
    "transformers": "networks of hf: and callbacks of its Trainer",
    "accelerate": "the Trainer of transformers",
    "lightning": "callbacks of its Trainer",
    "safetensors": "weights in .safetensors files",
    "timm": "vision transformers and timm: networks",
    "torchvision": "ResNets, AlexNet, SqueezeNet and torchvision: networks",
}


@app.command()
def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Show what this machine has, what is missing, what that costs, and how to mend it."""
    with one_sentence(as_json):
        rows = [*_machine(), *_packages(), *_sets(data_root), *_weights(data_root)]
    if as_json:
        keys = ("what", "state", "note")
        typer.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    typer.echo(_list(rows, ("what", "state", "note")))


Rows = list[tuple[str, ...]]


def _machine() -> Rows:
    """Python, processors, memory, GPUs."""
    free = available_memory(torch.device("cpu")) / 2**30
    whole = psutil.virtual_memory().total / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    gpu = ("GPU", "ok", ", ".join(gpus)) if gpus else (
        "GPU", "none", "large networks take hours on CPUs: use a machine with CUDA and --device "
        "cuda"
    )  # fmt: skip
    return [
        ("lla", lla.__version__, f"Python {platform.python_version()}, torch {torch.__version__}"),
        ("CPUs", str(os.cpu_count()), f"torch takes {torch.get_num_threads()} threads"),
        ("memory", f"{free:.1f} GiB", f"free of {whole:.1f} GiB; Lanczos bases need most of it"),
        gpu,
    ]


def _packages() -> Rows:
    """Optional packages."""
    return [
        (name, "ok", purpose)
        if importlib.util.find_spec(name)
        else (name, "missing", f"needed for {purpose}: pip install {name}")
        for name, purpose in _OPTIONAL.items()
    ]


def _sets(root: Path | None) -> Rows:
    """Data sets: bundled ones stand in for those that are missing."""
    found = (*datasets.describe(root), *datasets.describe_pictures(root))
    here = dict.fromkeys(item.name for item in found if item.available)
    rows: Rows = [("data sets", "ok", ", ".join(here))]
    return rows + [
        (
            f"{item.name} {item.split}".strip(),
            "missing",
            f"tables take a stand-in or leave cells out: {item.note}",
        )
        for item in found
        if not item.available
    ]


def _weights(root: Path | None) -> Rows:
    """Published weights: without them, cells of trained networks are not run."""
    found = [networks.find_pretrained(name, root) for name in networks.pretrained_names()]
    rows: Rows = [("weights", "ok", ", ".join(each.name for each in found if each.available))]
    return rows + [
        (
            f"weights of {each.name}",
            "missing",
            f"cells of the trained network are not run: {each.advice}",
        )
        for each in found
        if not each.available
    ]
