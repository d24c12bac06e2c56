"""The blocks of code on a page: found, and run as a reader would run them.

The tests run all pages with this, `make_pictures.py` makes the pictures, `make_notebook.py` the
notebook. On a page,

- a block of Python whose first line is `# name.py` is also a file of that name;
- a block of text behind a block of code is what the code prints;
- a comment `<!-- ... -->` right above a block says why it does not run.
"""

import contextlib
import doctest
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    code: str
    line: int  # of the page, from 1
    note: str  # the comment above it
    printed: str | None  # the block of text behind it

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if it is one."""
        first = self.code.partition("\n")[0]
        return first[2:] if first.startswith("# ") and first.endswith(".py") else None


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    tokens = [t for t in MarkdownIt("commonmark").parse(text) if t.map]
    found = []
    for i, token in enumerate(tokens):
        if token.type != "fence":
            continue
        above, behind = tokens[i - 1 : i], tokens[i + 1 : i + 2]
        note = above[0].content.strip() if above and above[0].type == "html_block" else ""
        prints = behind and behind[0].type == "fence" and behind[0].info == "text"
        found.append(
            Block(
                token.info,
                token.content,
                token.map[0] + 1,
                note.removeprefix("<!--").removesuffix("-->").strip(),
                behind[0].content if prints else None,
            )
        )
    return found


def run(block: Block, names: dict[str, Any], page: str) -> str:
    """Run a block of Python in a namespace, in the present folder; return what it prints.

    In a block with prompts the outputs are checked as doctests are, and what differs is returned.
    """
    where = f"{page}:{block.line}"
    if block.file:
        Path(block.file).write_text(block.code)
        return ""
    if block.code.startswith(">>> "):
        return _run_examples(block, names, where)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        # a line of the block in a traceback is that of the page
        exec(compile("\n" * block.line + block.code, page, "exec"), names)
    return printed.getvalue()


def _run_examples(block: Block, names: dict[str, Any], where: str) -> str:
    test = doctest.DocTestParser().get_doctest(block.code, {}, where, where, block.line)
    test.globs = names
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append, clear_globs=False)
    return "".join(said)
