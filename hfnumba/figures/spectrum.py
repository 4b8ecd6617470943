"""Picture of spectra: density, number of eigenvalues below a value, and the number of negative ones along a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfnumba.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hfnumba.krylov.spectrum_result import Spectrum

_LEAST = 1e-6
_MAX_CURVES = 5


def draw(spectra: Sequence[tuple[int, Spectrum]], matrix: str, out: Path) -> None:
    """Draw spectra with their errors.

    Left: densities with a band of two standard errors. Right: for one spectrum the number of eigenvalues below x, for
    several the number of negative eigenvalues against the iteration; bands are the bounds of the quadrature.

    Parameters
    ----------
    spectra : sequence of (int, Spectrum)
        Iterations and spectra, at least one.
    matrix : str
        Name of the matrix.
    out : Path
        File to write, ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    UsageError
        If the suffix is unknown, or matplotlib is not installed.
    CheckpointError
        If the file cannot be written.
    """
    figure = style.new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    _densities(left, spectra, matrix)
    if len(spectra) == 1:
        _counts(right, spectra[0][1])
    else:
        _along(right, spectra)
    style.save(figure, out)


def _densities(axes: Axes, spectra: Sequence[tuple[int, Spectrum]], matrix: str) -> None:
    chosen = sorted({round(k) for k in np.linspace(0, len(spectra) - 1, min(len(spectra), _MAX_CURVES))})
    for k, place in enumerate(chosen):
        iteration, found = spectra[place]
        colour = style.COLOURS[k % len(style.COLOURS)]
        x = np.linspace(found.lowest[0].value - 4 * found.width, found.highest[0].value + 4 * found.width, 1000)
        density = found.density(x)
        low, high = (density.value + sign * 2 * density.standard_error for sign in (-1, 1))
        axes.plot(x, density.value, color=colour, linewidth=1.6, label=f"iteration {iteration}")
        axes.fill_between(x, np.maximum(low, _LEAST / 10), high, color=colour, alpha=0.25, linewidth=0)
        ends = [one.value for one in (*found.lowest, *found.highest)]
        axes.plot(ends, np.full(len(ends), 2 * _LEAST), linestyle="", marker="|", markersize=9, color=colour)
    axes.set_yscale("log")
    axes.set_ylim(bottom=_LEAST)
    axes.set_xlabel(f"eigenvalue of the {matrix} matrix" if matrix != "hessian" else "eigenvalue of the Hessian")
    axes.set_ylabel("spectral density (band: ± 2 standard errors)")
    axes.legend(frameon=False)
    style.tidy(axes)


def _counts(axes: Axes, found: Spectrum) -> None:
    low, high = found.lowest[0].value, found.highest[0].value
    size = max(abs(low), abs(high)) or 1.0
    positive = np.geomspace(1e-5 * size, 1.5 * size, 300)
    x = np.concatenate([-positive[::-1], [0.0], positive])
    x = x[(x >= 1.5 * min(low, -1e-4 * size)) & (x <= 1.5 * max(high, 1e-4 * size))]
    count = found.count_below(x)
    below, above = count.lower - 2 * count.standard_error, count.upper + 2 * count.standard_error
    axes.fill_between(
        x, np.maximum(below, 0), np.minimum(above, found.order), color=style.COLOURS[0], alpha=0.25, linewidth=0
    )
    axes.plot(x, count.value, color=style.COLOURS[0], linewidth=1.6)
    axes.set_xscale("symlog", linthresh=1e-4 * size)
    axes.set_xlabel("x")
    axes.set_ylabel("number of eigenvalues below x (band: bounds)")
    axes.axvline(-found.flat, color="0.5", linewidth=0.8, linestyle=style.DASHED, label="−1 % of the largest")
    axes.legend(frameon=False, loc="upper left")
    ticks: Any = [sign * size * 10.0**-k for sign, k in ((-1, 0), (-1, 2), (-1, 4), (1, 4), (1, 2), (1, 0))]
    axes.set_xticks(
        [0.0, *[tick for tick in ticks if x[0] <= tick <= x[-1]]],
        labels=["0", *[f"{tick:.1g}" for tick in ticks if x[0] <= tick <= x[-1]]],
    )
    axes.minorticks_off()
    style.tidy(axes)


def _along(axes: Axes, spectra: Sequence[tuple[int, Spectrum]]) -> None:
    iterations = [iteration for iteration, _ in spectra]
    counts = [found.n_negative for _, found in spectra]
    axes.fill_between(
        iterations,
        [max(one.lower - 2 * one.standard_error, 0) for one in counts],
        [one.upper + 2 * one.standard_error for one in counts],
        color=style.COLOURS[0],
        alpha=0.25,
        linewidth=0,
    )
    axes.errorbar(
        iterations,
        [one.value for one in counts],
        yerr=[2 * one.standard_error for one in counts],
        color=style.COLOURS[0],
        marker="o",
        markersize=4,
        capsize=3,
    )
    axes.set_xlabel("iteration")
    axes.set_ylabel("eigenvalues below −1 % of the largest")
    axes.set_ylim(bottom=0)
    style.tidy(axes)
