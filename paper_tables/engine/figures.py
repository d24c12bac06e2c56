"""Figures as files: drawn from records and their artifacts, and only when these have changed."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lla import layer_plots, plane_plots, plotting, spectrum_plots
from lla.files import atomic_write, sha256_of_bytes
from paper_tables.engine.exhibit import Drawing


def path_of(drawing: Drawing, results: Path) -> Path:
    """The file of a figure."""
    return results / "figures" / f"{drawing.name}.png"


def write(drawings: Iterable[Drawing], results: Path) -> None:
    """Write `figures/<name>.png` for every drawing whose records or code have changed.

    Args:
        drawings: of all exhibits.
        results: the folder of results, where the artifacts of the records lie.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    for drawing in drawings:
        path, key = path_of(drawing, results), _key(drawing)
        if not path.exists() or _written_for(path) != key:
            atomic_write(path, _png(drawing, results, key))


def _png(drawing: Drawing, results: Path, key: str) -> bytes:
    """The picture, with its key; a small palette reduces the file to a third."""
    stream, small = io.BytesIO(), io.BytesIO()
    drawing.draw(results).savefig(stream, format="png")
    notes = PngInfo()
    notes.add_text("Description", key)
    with Image.open(stream) as opened:
        image: Image.Image = opened
        if drawing.colours is not None:
            image = opened.convert("RGB").quantize(drawing.colours, dither=Image.Dither.NONE)
        image.save(small, format="png", optimize=True, pnginfo=notes)
    return small.getvalue()


def _key(drawing: Drawing) -> str:
    """A digest of a figure's records and of the code that draws it."""
    pictures = (plotting, plane_plots, spectrum_plots, layer_plots)
    lines = [_code(_module(drawing)), *(_code(module.__name__) for module in pictures)]
    lines += [record.to_json() for record in drawing.records]
    return sha256_of_bytes("\n".join(lines))


def _module(drawing: Drawing) -> str:
    draw = drawing.draw
    return (draw.func if isinstance(draw, functools.partial) else draw).__module__


@functools.cache
def _code(module: str) -> str:
    return Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")


def _written_for(path: Path) -> str | None:
    """The key that a figure was written for; None if the file is damaged."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.info.get("Description")
    except (OSError, SyntaxError, ValueError):  # Pillow has no error of its own for all damages
        return None
