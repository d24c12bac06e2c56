"""Make the notebook: its cells are those of a page, run in order, with their outputs.

Text between blocks of Python becomes cells of text. Run it again when the page, the library or a
picture has changed.
"""

import base64
import io
import os
import re
import tempfile
from pathlib import Path

import nbformat
import pages
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

DOCS = Path(__file__).parent.resolve()
SOURCE, NOTEBOOK = DOCS / "first_steps.source.md", DOCS / "first_steps.ipynb"
COLOURS = 64  # of a picture in the notebook, so that it is small enough for a repository
INLINE = re.compile(r"(?<=data:image/png;base64,)[\w+/=]+")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def cells(text: str) -> list[nbformat.NotebookNode]:
    """The cells of a page; their ids are their positions, so that equal pages give equal files."""
    lines, found, done = text.splitlines(), [], 0
    for block in pages.blocks(text):
        if block.language == "python":
            found.append(new_markdown_cell("\n".join(lines[done : block.line - 1]).strip()))
            found.append(new_code_cell(block.code.strip()))
            done = block.line + block.code.count("\n") + 1
    found.append(new_markdown_cell("\n".join(lines[done:]).strip()))
    found = [cell for cell in found if cell.source]
    for i, cell in enumerate(found):
        cell.id = f"cell-{i}"
    return found


def small(png: str) -> str:
    """A picture with few colours, both as base64."""
    content = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(content, "png", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def make() -> nbformat.NotebookNode:
    """Run the notebook in an empty folder."""
    # tqdm warns, with a path of this machine, where it has no widgets for its bars
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    notebook = new_notebook(cells=cells(SOURCE.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, kernel_name=KERNEL["name"], resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = small(data["image/png"])
            if "text/html" in data:
                data["text/html"] = INLINE.sub(lambda found: small(found[0]), data["text/html"])
    notebook.metadata = {"kernelspec": KERNEL}
    return notebook


if __name__ == "__main__":
    nbformat.write(make(), NOTEBOOK)
