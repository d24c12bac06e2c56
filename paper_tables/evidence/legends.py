"""Legends: prose in the file `legends.md` beside a module, a paragraph under each heading."""

from __future__ import annotations

import re
from pathlib import Path


def legend(module: str, heading: str, **values: object) -> str:
    """One legend, as one line.

    Args:
        module: `__file__` of a module in the same folder.
        heading: of the paragraph.
        **values: what the paragraph names, such as `{limit:g}`.
    """
    text = Path(module).with_name("legends.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^# (.+)\n", text, flags=re.MULTILINE)
    paragraphs = dict(zip(parts[::2], parts[1::2], strict=True))
    return " ".join(paragraphs[heading].split()).format(**values)
