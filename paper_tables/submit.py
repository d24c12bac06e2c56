"""Start workers of the suites on a cluster, or as processes on this machine, by submitit.

    python -m paper_tables.submit 8 --slurm partition=gpu --slurm time=240 -- --profile paper

`lla tables --submit 8 ...` does the same. All machines must share the checkout and its folders.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lla.errors import LIBRARY_ERRORS, InputError
from lla.files import check_folder
from paper_tables.engine.leases import Leases
from paper_tables.engine.suite import checkout

CLUSTERS = ("slurm", "local")
# options that each worker gets by itself, or must not have
OWN = ("--shard", "--submission", "--workers", "--parent")
MISSING = "submitit is not installed: python -m pip install submitit"


def submit(
    count: int, options: Sequence[str], cluster: str, parameters: Mapping[str, str]
) -> list[Any]:
    """Submit workers 1 to `count`.

    Args:
        count: how many.
        options: of pytest, for each of them.
        cluster: "slurm", or "local" for processes on this machine.
        parameters: of Slurm, by the names of `sbatch`, such as partition, time, gpus_per_node.

    Returns:
        Their jobs, as submitit's.

    Raises:
        InputError: submitit or Slurm is missing; a number or name that cannot be.
        WriteError: the folders cannot be written.
    """
    if count < 1:
        raise InputError(f"{count} workers: give at least 1")
    taken = next((o for o in options if o.partition("=")[0] in OWN), None)
    if taken is not None:
        raise InputError(f"each worker gets its own {taken.partition('=')[0]}: leave it out")
    if cluster != "slurm" and parameters:
        raise InputError(f"--slurm {next(iter(parameters))} is for --cluster slurm: leave it out")
    if cluster == "slurm" and "time" not in parameters:
        raise InputError(
            "--slurm time=MINUTES is missing: submitit would end each worker after 5 minutes"
        )
    if importlib.util.find_spec("submitit") is None:
        raise InputError(MISSING)
    import submitit

    results, work = _folders(options)
    mark = f"submission-{secrets.token_hex(4)}"
    check_folder(results)
    check_folder(work)
    try:
        executor = submitit.AutoExecutor(folder=work / "jobs", cluster=cluster)
    except RuntimeError as error:
        raise InputError(f"{cluster} cannot be used here ({error}): take --cluster local") from None
    if cluster == "slurm":
        executor.update_parameters(name="lla-tables", slurm_additional_parameters=dict(parameters))
    else:
        executor.update_parameters(timeout_min=60 * 24 * 30)
    Leases(results).mark(mark, work)
    command = [sys.executable, "-m", "pytest", "-q", "paper_tables", "--submission", mark]
    shards = [f"{i}/{count}" for i in range(1, count + 1)]
    return executor.map_array(
        lambda shard: submitit.helpers.CommandFunction(
            [*command, "--shard", shard, *options], cwd=checkout()
        )(),
        shards,
    )


def _folders(options: Sequence[str]) -> tuple[Path, Path]:
    """The folders of results and of work that options of pytest name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--results", type=Path, default=checkout() / "results")
    parser.add_argument("--work-dir", type=Path, default=checkout() / ".lla")
    found, _ = parser.parse_known_args(options)
    return checkout() / found.results, checkout() / found.work_dir


def main(arguments: Sequence[str]) -> int:
    """Submit, say where the output will be, and wait for workers of this machine.

    Returns:
        The exit code: 1 if a worker on this machine fails.
    """
    own, options = list(arguments), []
    if "--" in own:
        cut = own.index("--")
        own, options = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(prog="python -m paper_tables.submit", description=__doc__)
    parser.add_argument("count", type=int, help="how many workers")
    parser.add_argument("--cluster", choices=CLUSTERS, default="slurm")
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="an option of sbatch"
    )
    given = parser.parse_args(own)
    wrong = [text for text in given.slurm if "=" not in text]
    if wrong:
        raise InputError(f"--slurm {wrong[0]}: give KEY=VALUE, such as partition=gpu")
    jobs = submit(given.count, options, given.cluster, dict(t.split("=", 1) for t in given.slurm))
    print(f"{len(jobs)} workers, jobs {jobs[0].job_id} to {jobs[-1].job_id}")  # noqa: T201
    print(f"their output: {jobs[0].paths.folder}")  # noqa: T201
    if given.cluster == "slurm":
        return 0
    failed = [job.job_id for job in jobs if job.exception() is not None]
    if failed:
        print(f"failed: {', '.join(failed)}")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LIBRARY_ERRORS as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
