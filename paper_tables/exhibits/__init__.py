"""One folder an exhibit: a table, a figure group or a study. None imports another.

A folder is found by being here: its package has the exhibit under the name `EXHIBIT`.
"""

from __future__ import annotations

import importlib
import pkgutil

from paper_tables.engine.exhibit import Exhibit
from paper_tables.paper import WORK

__all__ = ["find"]


def find() -> list[Exhibit]:
    """Find every exhibit: those of the paper first, each work's in the order that they ask for.

    Example:
        >>> [exhibit.name for exhibit in find()][:4]
        ['table1', 'table2', 'table3', 'table4']
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}").EXHIBIT for name in names]
    return sorted(found, key=lambda each: (each.work != WORK, each.work, each.order, each.name))
