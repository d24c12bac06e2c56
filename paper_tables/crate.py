"""The results as a research object: an RO-Crate, which says of each file what it is and its hash.

    python -m paper_tables.crate write build/crate
    python -m paper_tables.crate check build/crate

It needs `rocrate` (pip install rocrate). `tox -e crate` writes one and has roc-validator check it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import lla
from lla.errors import LIBRARY_ERRORS, ChecksumError, InputError
from lla.files import sha256_of_file
from paper_tables import paper
from paper_tables.engine.leases import FOLDER as LEASES
from paper_tables.engine.suite import checkout

METADATA = "ro-crate-metadata.json"
LICENSE = "https://spdx.org/licenses/MIT"
FORMATS = {
    ".jsonl": ("application/jsonlines", "records"),
    ".json": ("application/json", "verdicts, or a schema"),
    ".md": ("text/markdown", "a page"),
    ".csv": ("text/csv", "a table"),
    ".tex": ("application/x-tex", "a table"),
    ".html": ("text/html", "the report"),
    ".png": ("image/png", "a figure"),
    ".npz": ("application/zip", "an artifact of a record, NumPy arrays"),
    ".pt": ("application/octet-stream", "weights of a network, or a batch, as PyTorch saves them"),
}
OTHER = ("application/octet-stream", "a file that comes with the results")


def write(results: Path, folder: Path) -> int:
    """Write a crate of a folder of results.

    Args:
        results: the folder.
        folder: of the crate; made, or empty.

    Returns:
        The number of files in it.

    Raises:
        InputError: `rocrate` is not installed; there are no results; the folder is not empty.
    """
    if importlib.util.find_spec("rocrate") is None:
        raise InputError("rocrate is not installed: python -m pip install rocrate")
    from rocrate.rocrate import ROCrate

    files = list(_files(results))
    if not files:
        raise InputError(f"{results} has no files: give a folder of results")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: name another folder")
    crate = ROCrate()
    crate.name = f"Results of lla {lla.__version__}"
    crate.description = (
        f"What the tables, figures and claims of {paper.tables()['source']}, and of works beside "
        "it, come to when they are measured again: records, pages, figures, verdicts."
    )
    crate.license = LICENSE
    crate.datePublished = datetime.now(timezone.utc)
    for path in files:
        kind, what = FORMATS.get(path.suffix, OTHER)
        crate.add_file(
            path,
            f"results/{path.relative_to(results).as_posix()}",
            properties={
                "name": path.name,
                "description": what,
                "encodingFormat": kind,
                "contentSize": str(path.stat().st_size),
                "sha256": sha256_of_file(path),
            },
        )
    crate.write(folder)
    return len(files)


def check(folder: Path) -> int:
    """Check that the files of a crate are those that it names.

    Returns:
        The number of files.

    Raises:
        InputError: it is no crate.
        ChecksumError: a file is another one or missing, or is not named.
    """
    path = folder / METADATA
    try:
        graph = json.loads(path.read_bytes())["@graph"]
        named = {each["@id"]: each["sha256"] for each in graph if "sha256" in each}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} is no crate of results ({type(error).__name__} in {METADATA}): write one "
            "with python -m paper_tables.crate write"
        ) from error
    for name, digest in named.items():
        if not (folder / name).is_file() or sha256_of_file(folder / name) != digest:
            raise ChecksumError(f"{name} is not the file that the crate names: write it anew")
    others = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    for name in sorted(others - named.keys() - {METADATA}):
        raise ChecksumError(f"{name} is in the folder, but not in the crate: take it out")
    return len(named)


def _files(results: Path) -> Iterator[Path]:
    for path in sorted(results.rglob("*")):
        hidden = path.name.startswith(".") or path.suffix in (".lock", ".tmp")
        if path.is_file() and not hidden and LEASES not in path.parts:
            yield path


def main(arguments: list[str]) -> str:
    """Write or check; what came of it."""
    parser = argparse.ArgumentParser(prog="python -m paper_tables.crate", description=__doc__)
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, default=checkout() / "results")
    given = parser.parse_args(arguments)
    if given.action == "write":
        return f"{write(given.results, given.folder)} files in {given.folder}"
    return f"{check(given.folder)} files are as the crate says"


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))  # noqa: T201
    except LIBRARY_ERRORS as error:
        sys.exit(f"Error: {error}")
