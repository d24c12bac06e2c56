"""The page of an analysis: findings first, then tables and pictures."""

from __future__ import annotations

import base64
import math
import os
from typing import TYPE_CHECKING

from markupsafe import Markup

from lla._version import __version__
from lla.analysis.result import Analysis, Finding, other_mode
from lla.estimate import Estimate
from lla.files import atomic_write
from lla.plotting import forget, png_of
from lla.report import html, plots
from lla.report.contents import Environment, Gallery, Legend, Picture, Report
from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNS = {"good": "✓", "note": "•", "warning": "!"}
DPI = 100


def write_page(
    found: Analysis, path: str | os.PathLike[str], network: str = "", drawn: bool = True
) -> None:
    """Write the page.

    Args:
        found: what to show.
        path: the file.
        network: network and data as on the command line; then the page names commands, else calls.
        drawn: batches are drawn from the data, so that a command can draw more.

    Raises:
        WriteError: it cannot be written.
    """
    atomic_write(path, html.render(_report(found, network, drawn), ""))


def _report(found: Analysis, network: str, drawn: bool) -> Report:
    one = found.criteria
    again = "analysis = lla.analyze(model, batches, 'report.html')"
    if network:
        again = (
            f"lla analyze {network}{f' --batches {one.batches}' if drawn else ''} --mode "
            f"{found.mode} --probes {one.probes} --steps {one.steps} "
            f"--points {len(found.plane.loss)}"
        )
    return Report(
        title=f"Analysis of {found.about}",
        lead=(
            f"Loss {one.loss:.4g}; {_counted(one.batches, 'batch', 'batches')}, "
            f"{_counted(one.probes, 'probe', 'probes')}, {one.steps} Lanczos steps, "
            f"{one.dtype}; {found.seconds:.0f} seconds. An entry is a value ± its "
            "standard error."
        ),
        claims=(),
        claims_legend=Legend(()),
        findings=(("Findings", _findings(found.findings, network, drawn)),),
        tables=(_criteria(found), _extremes(found), _layers(found)),
        tables_legend=Legend(()),
        galleries=_galleries(found),
        environment=Environment("Computed with:", _facts(found), ()),
        commands=(("The same again", again),),
    )  # fmt: skip


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _facts(found: Analysis) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    known = {
        "lla": __version__, "products by": found.criteria.route, "plan": found.criteria.plan,
        "products for the criteria": str(found.criteria.matvecs),
    }  # fmt: skip
    return tuple((name, ((value, 0),)) for name, value in known.items())


def _findings(findings: tuple[Finding, ...], network: str, drawn: bool) -> Markup:
    parts, words = [], {"network": network, "more": " --batches 32" if drawn else ""}
    for each in findings:
        head = f"{SIGNS[each.weight]} {each.topic}."
        parts.append(Markup("<p><b>{}</b> {}</p>").format(head, each.text))
        said = f"lla {each.command.format(**words)}" if network and each.command else ""
        if said or each.code:
            parts.append(Markup("<pre><code>{}</code></pre>").format(said or each.code))
    return Markup("\n").join(parts)


def _criteria(found: Analysis) -> Table:
    modes = {found.mode: found.criteria}
    if found.other is not None:
        modes[other_mode(found.mode)] = found.other
    lines = tuple(
        Line(
            f"{mode} mode",
            (
                *(_entry(e) for e in (one.re, one.kh1, one.kh05, one.kind.negative_share,
                                      one.kind.near_zero)),
                Entry(one.kind.name),
            ),
        )
        for mode, one in modes.items()
    )  # fmt: skip
    legend = (
        "r_e is the magnitude of the smallest eigenvalue over the largest one. K_H1 and K_H05 are "
        "ratios of the negative to the positive part of the spectrum. The negative share and the "
        "part near zero are of sum |lambda| w; the kind follows from them."
    )
    columns = ("r_e", "K_H1", "K_H05", "negative share", "near zero", "kind")
    return Table("criteria", "Criteria", legend, columns, (Group("", "", lines),))


def _extremes(found: Analysis) -> Table:
    extremes = found.extremes
    names = ("largest", "smallest", "second largest")
    rows = zip(names, extremes.values, extremes.residuals, strict=False)  # small networks have less
    lines = [
        Line(name, (Entry(f"{value:.5g}"), Entry(f"{residual:.1g}")))
        for name, value, residual in rows
    ]
    total = found.blocks.total
    error = "" if total.stderr is None else f"{total.stderr:.3g} (standard error)"
    lines += [
        Line("trace", (Entry(f"{total.value:.5g}"), Entry(error))),
        Line("norm of the gradient", (Entry(f"{found.gradient:.5g}"), None)),
    ]
    legend = "An eigenvalue lies within its error of the value: the error is ||H x - lambda x||."
    return Table("extremes", "Largest and smallest eigenvalues, trace and gradient", legend,
                 ("value", "error"), (Group("", "", tuple(lines)),))  # fmt: skip


def _layers(found: Analysis) -> Table:
    blocks, flat = found.blocks, found.flatness
    lines = []
    for i, name in enumerate(blocks.names):
        exact = None if flat is None or name not in flat.names else flat[name]
        lines.append(
            Line(
                name or "(the network itself)",
                (
                    Entry(f"{blocks.sizes[i]:,}"),
                    _entry(blocks.share(i)),
                    _entry(blocks.trace(i)),
                    None if exact is None else Entry(f"{exact.kappa.value:.4g}"),
                    Entry(f"{blocks.unused[i] / blocks.sizes[i]:.1%}"),
                ),
            )
        )
    why = f" There is no relative flatness: {found.why_no_flatness}." if flat is None else ""
    legend = (
        "One line for each module with parameters of its own. Relative flatness (kappa) is that of "
        "the weight; a layer that is scaled while the next one is divided by as much keeps it. "
        f"Unused are parameters that the loss does not depend on.{why}"
    )
    columns = ("parameters", "share of the trace", "trace", "relative flatness", "unused")
    return Table("layers", "Layers", legend, columns, (Group("", "", tuple(lines)),),
                 folded=len(lines) > 30)  # fmt: skip


def _galleries(found: Analysis) -> tuple[Gallery, ...]:
    spectra = [(f"batch {i}", each) for i, each in enumerate(found.criteria.spectra[:7])]
    curves = plots.spectra(spectra, found.about, "Spectral density of each batch.")
    finite = bool(math.isfinite(found.plane.loss.max()))
    surface = plots.surface(found.plane, found.about, "Loss on a plane of two random directions.")
    return (
        Gallery("spectra", "Spectrum", (_picture(found.criteria.plot(title=""),
                "Spectral density of the Hessian"),), (curves,), "spectra", "Spectrum to zoom"),
        Gallery("surfaces", "Loss plane", (_picture(found.plane.plot(title=""),
                "Loss on a plane of two random directions through the weights"),),
                (surface,) if finite else (), "surfaces", "Loss surface to turn"),
    )  # fmt: skip


def _picture(figure: Figure, alt: str) -> Picture:
    content = base64.b64encode(png_of(figure, DPI)).decode()
    forget(figure)
    return Picture("", alt, content)


def _entry(estimate: Estimate) -> Entry:
    return Entry(measured(estimate.value, estimate.stderr))
