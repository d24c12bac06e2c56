"""Render the pages of the benchmarks from their published records; measure nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.exhibits import EXHIBITS
from benchmarks.publish import write
from paper_tables.engine.suite import checkout

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=checkout() / "results")
    results = parser.parse_args().results
    for exhibit in EXHIBITS:
        write(exhibit, results)
