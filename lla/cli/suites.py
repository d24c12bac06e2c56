"""The commands that need a checkout: the papers' tables, and the verdicts on claims."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

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

    With --shard I/N this is worker I of N. All workers share the folders of results and of work.
    """
    if submit is None:
        command = ["-m", "pytest", "-q", "paper_tables", *context.args]
    else:
        options = [f"--slurm={text}" for text in slurm or ()]
        command = ["-m", "paper_tables.submit", str(submit), f"--cluster={cluster}", *options]
        command += ["--", *context.args]
    _run(command)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,  # that of the program that is called says more
)
def claims(context: typer.Context) -> None:
    """List claims, show one with its numbers, or verify one, in a checkout."""
    _run(["-m", "paper_tables.verify", *context.args])


def _run(arguments: list[str]) -> NoReturn:
    """Run Python in the checkout, and end with its exit code."""
    if not Path("paper_tables/conftest.py").is_file():
        fail("there is no folder paper_tables here: run this in a checkout of the project")
    raise typer.Exit(subprocess.run([sys.executable, *arguments], check=False).returncode)
