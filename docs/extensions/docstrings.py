"""The library's docstrings as Sphinx takes them.

They are plain text in Google style: `|x|` and `v*` are mathematics there and no markup, formulas
are indented, and what the fields of a dataclass hold is said in comments behind them.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from typing import Any

from sphinx.application import Sphinx

from lla.saved import Saved

_BEFORE_NAPOLEON = 400  # which has the priority 500
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Warns|Yields):$")
_CODE = re.compile(r"(`[^`]+`)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the steps below."""
    app.connect("autodoc-process-docstring", _process, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}


def _process(app: Sphinx, what: str, name: str, found: object, options: Any, lines: list[str]):
    text = with_literal_formulas([escaped(line) for line in lines])
    if inspect.isclass(found) and "Attributes:" not in text and (fields := fields_of(found)):
        text = with_fields(text, fields)
    lines[:] = text


def _signature(
    app: Sphinx, what: str, name: str, found: object, options: Any, arguments: str, returns: str
) -> tuple[str, str] | None:
    """Leave out how a result is constructed, which only the library does."""
    result = inspect.isclass(found) and issubclass(found, Saved)
    return ("", returns) if result else None


def escaped(line: str) -> str:
    r"""A line whose mathematics is no markup; examples and code stay as they are.

    >>> escaped("at most |beta_m| of v_ and x*, see `lla.a_`")
    'at most \\|beta_m\\| of v\\_ and x\\*, see `lla.a_`'
    """
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def with_literal_formulas(lines: list[str]) -> list[str]:
    """Indented paragraphs before the first section as literal blocks."""
    found, open_block = [], False
    end = next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    for i, line in enumerate(lines[:end]):
        indented = line.startswith("    ")
        if indented and not open_block and (i == 0 or not lines[i - 1].strip()):
            found += [".. code-block:: text", ""]
            open_block = True
        elif line.strip() and not indented:
            open_block = False
        found.append(line.replace("\\", "") if open_block else line)
    return found + lines[end:]


def with_fields(lines: list[str], fields: dict[str, tuple[str, str]]) -> list[str]:
    """A class's docstring with its fields, before its example."""
    section = ["", "Attributes:"]
    for name, (kind, comment) in fields.items():
        section.append(f"    {name} ({kind}): {escaped(comment)}")
    example = next((i for i, line in enumerate(lines) if line.startswith(">>>")), len(lines))
    return [*lines[:example], *section, "", *lines[example:]]


def fields_of(cls: type) -> dict[str, tuple[str, str]]:
    """The type and the comment of each field of a dataclass or a named tuple."""
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")):
        return {}
    source = textwrap.dedent(inspect.getsource(cls))
    (body,) = ast.parse(source).body
    comments = _comments(source)
    found = {}
    for node in body.body:
        if not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation):
            continue
        above, line = [], node.lineno - 1
        while comments.get(line, ("", False))[1]:
            above.insert(0, comments[line][0])
            line -= 1
        behind = comments.get(node.end_lineno, ("", False))[0]
        said = " ".join([*above, behind]).strip()
        found[node.target.id] = (ast.unparse(node.annotation), said)
    return found


def _comments(source: str) -> dict[int, tuple[str, bool]]:
    """The comment of each line, and whether it stands alone."""
    return {
        token.start[0]: (token.string.lstrip("# "), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
