"""Several spectra in one picture: side by side, and over the course of training.

Called by name, as `lla.spectra.compare({"before": one, "after": other})`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lla.arguments import positive_number, real_number
from lla.errors import InputError
from lla.hessian.criteria.criteria import Criteria
from lla.hessian.spectrum import Spectrum, curve_of
from lla.plotting import entitled
from lla.spectrum_plots import Curve, plot_spectra, plot_spectra_over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Spectral = Spectrum | Criteria  # of criteria the mean over their batches


def compare(
    spectra: Mapping[str, Spectral] | Sequence[Spectral],
    *,
    linear: float | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Draw several spectra on one axis that is logarithmic to both sides of zero.

    All have the same broadening on this axis, the same floor and the same limits, so that heights
    can be compared: see `lla.spectrum_plots.plot_spectra`.

    Args:
        spectra: by the name that the legend shows, or a list; `lla.Criteria` stand for the mean of
            their batches.
        linear: magnitude up to which the axis is linear; 1e-3 of the largest node by default.
        ax: axes to draw into; a new figure by default.
        title: above the picture.

    Raises:
        InputError: no spectrum, something else than spectra, or `linear` not positive.
    """
    if not isinstance(spectra, Mapping):
        spectra = {_name(i, each): each for i, each in enumerate(spectra)}
    curves = _curves(spectra)
    return entitled(ax, plot_spectra(curves, linear=_checked(linear), ax=ax), title)


def over_training(
    spectra: Mapping[float, Spectral],
    *,
    name: str = "epoch",
    linear: float | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the spectrum over training: time to the right, eigenvalues upwards, density as colour.

    A column reaches to the middle between two measurements; triangles show where these are.

    Args:
        spectra: by epoch or step, two or more; `lla.Criteria` stand for the mean of their batches.
        name: of the time.
        linear: see `compare`.
        ax: axes to draw into; a new figure by default.
        title: above the picture.

    Raises:
        InputError: fewer than two spectra, something else than spectra, a time that is no finite
            number, or `linear` not positive.
    """
    if not isinstance(spectra, Mapping) or len(spectra) < 2:
        raise InputError("give spectra of two or more epochs, as {epoch: spectrum}")
    times = np.array([real_number(f"the {name}", time) for time in spectra])
    if not np.isfinite(times).all():
        raise InputError(f"the {name}s are {times.tolist()}: give finite numbers")
    order = np.argsort(times)
    curves = _curves({str(time): each for time, each in spectra.items()})
    figure = plot_spectra_over(
        times[order], [curves[i] for i in order], name=name, linear=_checked(linear), ax=ax
    )
    return entitled(ax, figure, title)


def _curves(spectra: Mapping[str, Any]) -> list[Curve]:
    if not spectra:
        raise InputError("there is no spectrum: give one or more")
    for name, each in spectra.items():
        if not isinstance(each, Spectrum | Criteria):
            raise InputError(
                f"{name!r} is {type(each).__name__}: give results of lla.spectral_density or "
                "lla.criteria"
            )
    return [
        curve_of(str(name), [each] if isinstance(each, Spectrum) else each.spectra)
        for name, each in spectra.items()
    ]


def _name(index: int, spectrum: Any) -> str:
    """What the legend says of a spectrum in a list."""
    about = getattr(spectrum, "about", "")
    return f"{index + 1}: {about}" if about else str(index + 1)


def _checked(linear: float | None) -> float | None:
    return None if linear is None else positive_number("linear", linear)
