"""The command that regenerates the paper's tables in a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

from lla.cli.command import app, fail


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def tables(context: typer.Context) -> None:
    """Regenerate the paper's tables in a checkout; options go to pytest (--list-cells, -k, ...)."""
    suite = Path("paper_tables")
    if not (suite / "conftest.py").is_file():
        fail("there is no folder paper_tables here: run this in a checkout of the project")
    command = [sys.executable, "-m", "pytest", "-q", str(suite), *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
