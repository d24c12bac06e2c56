"""Make the pictures of the pages: run each page's code, and keep the files that the page shows.

`python docs/make_pictures.py` makes those of all pages, `python docs/make_pictures.py start.md`
those of one.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pages

DOCS = Path(__file__).parent.resolve()
SHOWN = re.compile(r"\]\(((?:\.\./)*pictures/([\w-]+\.png))\)")


def make(page: Path) -> list[str]:
    """Run a page in an empty folder and copy its pictures; return their names."""
    text = page.read_text()
    names = [name for _, name in SHOWN.findall(text)]
    if not names:
        return []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)  # a page may import its own files
        namespace = {"__name__": "__main__"}
        for block in pages.blocks(text):
            if block.language == "python" and not block.note:
                pages.run(block, namespace, page.name)
        made = [name for name in names if Path(name).exists()]
        for name in made:
            shutil.copyfile(name, DOCS / "pictures" / name)
        sys.path.remove(folder)
        os.chdir(DOCS)
    return made


if __name__ == "__main__":
    chosen = [DOCS / name for name in sys.argv[1:]] or sorted(DOCS.rglob("*.md"))
    for page in chosen:
        for name in make(page):
            sys.stdout.write(f"{page.relative_to(DOCS)}: {name}\n")
