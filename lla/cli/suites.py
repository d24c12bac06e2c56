"""The command that regenerates the paper's tables in a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from lla.cli.command import app, fail


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def tables(
    context: typer.Context,
    submit: Annotated[
        int | None, typer.Option(metavar="N", help="Start N workers that share the cells.")
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="Where workers run: slurm, or local for processes here.")
    ] = "slurm",
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of sbatch.")
    ] = None,
) -> None:
    """Regenerate the paper's tables in a checkout; options go to pytest (--list-cells, -k, ...).

    --shard I/N makes this worker I of N, which share the folders of results and of work.
    """
    suite = Path("paper_tables")
    if not (suite / "conftest.py").is_file():
        fail("there is no folder paper_tables here: run this in a checkout of the project")
    if submit is None:
        command = ["-m", "pytest", "-q", str(suite), *context.args]
    else:
        options = [f"--slurm={text}" for text in slurm or ()]
        command = ["-m", "paper_tables.submit", str(submit), f"--cluster={cluster}", *options]
        command += ["--", *context.args]
    raise typer.Exit(subprocess.run([sys.executable, *command], check=False).returncode)
