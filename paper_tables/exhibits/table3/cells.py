"""The cells of Table 3: sizes and splits of the data sets, counted from what the loaders give.

A data set that is only partly there is not counted; the reason says how many images there are. Its
part is enough for the shape of an image. This is the shape of the network's input, as in the paper,
where MNIST is padded to 32 x 32 and SVHN is converted to grayscale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lla import data
from lla.data import Availability
from lla.errors import MissingDataError
from lla.files import sha256_of_bytes
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.paper import paper_columns, paper_rows, paper_value

TABLE = "table3"
SIDE = 32  # images are padded to this
SHAPE = ("height", "width", "channels")  # the metrics of the column `image`

GRAY = {"svhn": "svhn-gray"}  # row -> the set that its shape is taken from, if it is another one
# The splits that add up to a size. The paper counts SVHN's additional images nowhere.
SIZE = {"cinic10": ("train", "valid", "test")}
WORDS = {"train": "training", "valid": "validation", "test": "test"}
SECONDS = {"cinic10": 60.0, "cinic10-i": 60.0}  # for a split of many files; others take one

_Available = Mapping[tuple[str, str], Availability]  # by name and split


def cells(settings: Settings) -> list[Cell]:
    """All cells of Table 3."""
    found = _available(settings)
    return [
        _cell(settings, found, row, column)
        for row in paper_rows(TABLE)
        for column in paper_columns(TABLE)
    ]


def _cell(settings: Settings, found: _Available, row: str, column: str) -> Cell:
    name, splits = _inputs(row, column)
    enough = _enough(found, row, column)
    runs = enough or settings.download
    # a download is complete
    fidelity = least_faithful(found[name, s].fidelity for s in splits) if enough else "paper"
    config = {"data": name, "splits": splits, "form": fidelity}
    return Cell(
        table=TABLE,
        row=row,
        column=column,
        name=f"{row}-{column}",
        metrics=SHAPE if column == "image" else ("images",),
        config={**config, "padded_to": SIDE} if column == "image" else config,
        fidelity=fidelity if runs else None,
        inputs=f"{name}, {' + '.join(splits)}",
        compute=_compute if runs else None,
        reason=None if runs else _reason(settings, found, row),
        seconds=SECONDS.get(row, 1.0) * len(splits),
    )


def _inputs(row: str, column: str) -> tuple[str, tuple[str, ...]]:
    """The loader's name and the splits that a cell is counted from."""
    if column == "image":
        return GRAY.get(row, row), ("train",)
    return row, SIZE.get(row, ("train", "test")) if column == "size" else (column,)


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    name, splits = _inputs(cell.row, cell.column)
    found = _available(settings)
    download = not _enough(found, cell.row, cell.column)
    try:
        counts = [_count(settings, name, split, download) for split in splits]
    except MissingDataError:  # the error's text names folders of this machine
        reason = f"the download failed; {_reason(settings, found, cell.row)}"
        return cell.absent(reason, config=cell.config).not_run()
    digests = "\n".join(count.sha256 for count in counts)
    source = Source(name, digests if len(counts) == 1 else sha256_of_bytes(digests))
    if cell.column == "image":
        (count,) = counts
        note = f"stored as {'x'.join(map(str, count.stored))}: {count.note}"
        return [
            cell.record(metric, float(value), data=source, note=note)
            for metric, value in zip(SHAPE, count.shape, strict=True)
        ]
    parts = " + ".join(f"{c.images} {WORDS[s]}" for c, s in zip(counts, splits, strict=True))
    return [cell.record("images", float(sum(c.images for c in counts)), data=source, note=parts)]


def _available(settings: Settings) -> _Available:
    return {(item.name, item.split): item for item in data.describe(settings.data_root)}


def _enough(found: _Available, row: str, column: str) -> bool:
    """Whether the images that are there are enough for a cell."""
    name, splits = _inputs(row, column)
    items = [found[name, split] for split in splits]
    return all(i.available and (i.fidelity == "paper" or column == "image") for i in items)


def _reason(settings: Settings, found: _Available, row: str) -> str:
    """What is there of a data set, and what to do; the same for all of its cells."""
    parts = []
    for split in _inputs(row, "size")[1]:
        item = found[row, split]
        amount = "all" if item.available else "no"
        if item.available and item.fidelity != "paper":
            there = _count(settings, row, split).images
            amount = f"{there} of {paper_value(TABLE, row, split, 'images')}"
        parts.append(f"{amount} {WORDS[split]} images")
    return (
        f"there are {', '.join(parts)}: run `lla data fetch {row}`, or see `lla data list` for "
        "where to put the files"
    )


# --- counting


@dataclass(frozen=True)
class _Count:
    """What a loader gives for one split."""

    images: int
    stored: tuple[int, ...]  # height, width, channels of an image
    shape: tuple[int, ...]  # the same as the network sees it
    sha256: str
    note: str


@session_cached()  # several cells count the same split
def _count(settings: Settings, name: str, split: str, download: bool = False) -> _Count:
    found = data.load(name, split, settings.data_root, download=download)
    first = found.images[:1]
    return _Count(
        images=len(found),
        stored=_height_width_channels(first.shape),
        shape=_height_width_channels(data.to_input(first, size=SIDE).shape),
        sha256=found.sha256,
        note=found.note,
    )


def _height_width_channels(shape: Sequence[int]) -> tuple[int, ...]:
    _, channels, height, width = shape
    return height, width, channels
