"""Render the pages of the benchmarks from their published records; measure nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.exhibits import EXHIBITS
from benchmarks.publish import write
from lla.errors import LIBRARY_ERRORS
from paper_tables.engine.suite import checkout

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=checkout() / "results")
    results = parser.parse_args().results
    try:
        for exhibit in EXHIBITS:
            write(exhibit, results)
    except (*LIBRARY_ERRORS, FileNotFoundError) as error:
        sys.exit(f"Error: {error}")
