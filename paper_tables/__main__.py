"""Render tables, figures, claims and the report from the published records; compute nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lla.errors import LIBRARY_ERRORS
from paper_tables.engine.publish import write_all
from paper_tables.engine.suite import checkout
from paper_tables.exhibits import find

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m paper_tables", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=checkout() / "results")
    try:
        write_all(find(), parser.parse_args().results)
    except (*LIBRARY_ERRORS, FileNotFoundError) as error:
        sys.exit(f"Error: {error}")
