"""Numbers and tables as people read them: plain text, Markdown, LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

Rows = Sequence[Sequence[str]]
_TINY = 1e-6  # relative standard error


def measured(value: float | None, stderr: float | None = None) -> str:
    """A value and its standard error, to two digits of the latter.

    >>> measured(0.98123, 0.0043), measured(0.5), measured(0.000512, 0.00004)
    ('0.9812 ± 0.0043', '0.5', '(5.12 ± 0.40)e-4')
    >>> measured(451.2, 63.0), measured(0.25, 0.0)
    ('451 ± 63', '0.25 ± 0')
    >>> measured(0.0140188, 3e-10)  # more digits than anyone reads
    '0.0140188 ± 3e-10'
    """
    if value is None:
        return "not run"
    if not stderr:
        return _plain(value) + (" ± 0" if stderr == 0 else "")
    if stderr < abs(value) * _TINY:
        return f"{value:.6g} ± {stderr:.1g}"
    size = max(abs(value), stderr)
    exponent = math.floor(math.log10(size)) if size < 0.01 or size >= 1e5 else 0
    scale = 10.0**exponent
    digits = min(max(0, 1 - math.floor(math.log10(stderr / scale))), 6)
    text = f"{value / scale:.{digits}f} ± {stderr / scale:.{digits}f}"
    return f"({text})e{exponent}" if exponent else text


def _plain(value: float) -> str:
    text = f"{value:.4g}"
    if "e" not in text and value != 0 and abs(value) < 0.01:
        exponent = math.floor(math.log10(abs(value)))
        text = f"{value / 10.0**exponent:.4g}e{exponent}"
    return text


def plain_table(rows: Rows, headers: Sequence[str]) -> str:
    """A table for the terminal."""
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)


def csv_table(rows: pd.DataFrame) -> str:
    """A table as comma-separated values; a text that a spreadsheet would compute gets a quote.

    Spreadsheets take a text that begins with =, +, -, @, a tab or a line end for a formula, which
    may fetch and send what it likes. Numbers stay as they are.

    >>> print(csv_table(pd.DataFrame({"note": ["=1+1", "-0.5", "two"], "value": [-1, 2, 3]})))
    note,value
    '=1+1,-1
    -0.5,2
    two,3
    <BLANKLINE>
    """
    safe = rows.rename(columns=_no_formula)
    for place, (_, column) in enumerate(rows.items()):
        if pd.api.types.is_string_dtype(column) or pd.api.types.is_object_dtype(column):
            cells = np.empty(len(rows), dtype=object)  # of which pandas infers no other type
            cells[:] = [_no_formula(cell) for cell in column]
            safe.isetitem(place, cells)
    return safe.to_csv(index=False, lineterminator="\n")


def _no_formula(cell: Any) -> Any:
    """A cell that no spreadsheet computes."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def markdown_text(text: str) -> str:
    r"""A text for Markdown in which nothing is an HTML tag.

    >>> print(markdown_text("a < b, <b>bold</b>"))
    a < b, \<b>bold\</b>
    """
    return re.sub(r"<(?=[A-Za-z/!?])", r"\<", text)


def markdown_table(rows: Rows, headers: Sequence[str], aligned: bool = True) -> str:
    """A table in GitHub's Markdown; without `aligned` it is much shorter if texts are long."""
    safe = [
        [markdown_text(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows
    ]
    headers = [markdown_text(header) for header in headers]
    if aligned:
        return tabulate(safe, headers, tablefmt="github", disable_numparse=True)
    lines = [list(headers), ["---"] * len(headers), *safe]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_table(rows: Rows, headers: Sequence[str]) -> str:
    """A LaTeX `tabular` with booktabs rules, everything in it escaped."""
    return _symbols(tabulate(rows, headers, tablefmt="latex_booktabs", disable_numparse=True))


LATEX_NEEDS = "% needs \\usepackage{booktabs,graphicx}"


def latex_float(caption: str, rows: Rows, headers: Sequence[str], notes: Sequence[str] = ()) -> str:
    """A LaTeX `table` as wide as the text, with numbered notes below; everything escaped."""
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{latex_text(caption)}}}",
            "\\resizebox{\\textwidth}{!}{%",
            latex_table(rows, headers) + "}",
            *(f"\\par\\footnotesize {i}. {latex_text(n)}" for i, n in enumerate(notes, start=1)),
            "\\end{table}",
        ]
    )


def latex_text(text: str) -> str:
    """A text in which all special characters of LaTeX are escaped."""
    return _symbols(text.translate(_ESCAPES))


_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\ensuremath{<}",
        ">": r"\ensuremath{>}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)

_SYMBOLS = {  # in escaped text
    r"K\_H05": "$K_{H0.5}$",
    r"K\_H1": "$K_{H1}$",
    r"r\_e": "$r_e$",
    "--": "-{}-",  # an option, not a dash
    "±": r"$\pm$",
    "—": "---",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "“": "``",
    "”": "''",
}


def _symbols(text: str) -> str:
    for symbol, replacement in _SYMBOLS.items():
        text = text.replace(symbol, replacement)
    return text
