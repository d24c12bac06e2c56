"""What pictures have in common: axes, colours, titles, files.

matplotlib is imported when the first picture is drawn, not with this module. Its pyplot is never
imported here: a figure needs neither pyplot nor a display. Only where the user has imported pyplot
are new figures made through it, so that `pyplot.show()` shows them.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from lla.arguments import positive_number
from lla.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito's colours, told apart by readers with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def without_numpy_errors(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw without NumPy's errors, which the caller may have turned on by `np.seterr`."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        with np.errstate(all="ignore"):
            return draw(*args, **options)

    return drawn


def axes_of(
    ax: Axes | None, size: tuple[float, float] = (6.4, 4.0), projection: str | None = None
) -> tuple[Figure, Axes]:
    """The given axes and their figure, or new ones.

    Args:
        ax: axes to draw into, or None.
        size: of a new figure, in inches.
        projection: of new axes, "3d" or None.
    """
    if ax is not None:
        return ax.figure.figure, ax  # of axes in a subfigure the whole figure
    from matplotlib.figure import Figure

    pyplot = sys.modules.get("matplotlib.pyplot")
    make: Callable[..., Figure] = Figure if pyplot is None else pyplot.figure
    figure = make(figsize=size, layout="constrained")
    # IPython asks an object for this; the formats that it knows depend on pyplot
    figure._repr_mimebundle_ = functools.partial(_mimebundle, figure)  # type: ignore[attr-defined]
    return figure, figure.add_subplot(projection=projection)


def entitled(ax: Axes | None, figure: Figure, title: str | None, about: str = "") -> Figure:
    """A figure with its title.

    Args:
        ax: the axes that were given, or None for a new figure.
        figure: what was drawn.
        title: as it was asked for; None takes `about` for a new figure, and nothing otherwise, so
            that a figure with several axes stays as its owner made it.
        about: what the picture is of, as far as it is known.
    """
    text = about if title is None and ax is None else title
    if text and ax is None:
        figure.suptitle(text, fontsize=10)
    elif text and ax is not None:
        ax.set_title(text, fontsize=10)
    return figure


def whole_ticks(ax: Axes) -> None:
    """Set ticks at whole numbers only along the x axis, such as ranks."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend above the axes, where it hides nothing."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=8, frameon=False)


def png_of(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def write_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 120) -> None:
    """Write a figure to a PNG file, all of it or nothing; its folder is made if it is missing.

    Args:
        figure: what to draw.
        path: the file.
        dpi: pixels an inch.

    Raises:
        InputError, WriteError: see `lla.files.atomic_open`.
    """
    atomic_write(path, png_of(figure, dpi))


def forget(figure: Figure) -> None:
    """Take a figure out of pyplot's list, if the user has pyplot and the figure is there."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)


def check_cap(cap: float | None) -> None:
    """Check that a cap is a positive, finite number or None."""
    if cap is not None:
        positive_number("cap", cap)


def _mimebundle(figure: Figure, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    """A figure as IPython shows it, with or without pyplot."""
    found = {"image/png": png_of(figure), "text/plain": repr(figure)}
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None and "inline" in pyplot.get_backend():
        forget(figure)  # or it would be shown a second time at the end of the cell
    return found
