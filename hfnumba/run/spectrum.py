"""Spectra of a run's curvature matrices: at a checkpoint, or along the run, which is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, NumericalError, UsageError
from hfnumba.krylov.operator import Operator
from hfnumba.krylov.spectrum import spectrum
from hfnumba.krylov.spectrum_result import Spectrum
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.run.inputs import fitted
from hfnumba.run.method_settings import optimizer_of
from hfnumba.run.model import TrainedModel, load_model

if TYPE_CHECKING:
    from hfnumba.engine import RoundObjective
    from hfnumba.engine.held_out import SplitPart
    from hfnumba.store import Store

MATRICES = {
    "hessian": "hessian",
    "gauss-newton": "gauss_newton",
    "fisher": "fisher",
    "empirical-fisher": "empirical_fisher",
}
"""Names of matrices, and the methods of a linearization that return them."""


@dataclass(frozen=True)
class SpectrumSettings:
    """Settings of a spectrum: which matrix, on which rows, how accurately, and where it is computed.

    Attributes
    ----------
    checkpoint : {"best", "newest"}
        Parameters at which it is computed, see :func:`hfnumba.run.model.load_model`.
    matrix : str
        One of :data:`MATRICES`.
    split : str
        Name of the split whose rows make the matrix.
    rows : int or None
        Number of rows of a sample; None for all.
    probes, steps, extreme, seed : int
        See :func:`hfnumba.krylov.spectrum.spectrum`.
    every : int or None
        Number of iterations between two spectra along the run up to the checkpoint; None for one at the checkpoint.
    cluster : str
    threads : int or None
        See :func:`hfnumba.launch.open_cluster`.
    """

    checkpoint: Literal["best", "newest"] = "best"
    matrix: str = "hessian"
    split: str = "train"
    rows: int | None = None
    probes: int = 8
    steps: int = 64
    extreme: int = 5
    seed: int = 0
    every: int | None = None
    cluster: str = "none"
    threads: int | None = None


def run_spectra(
    run: Path, store_path: Path, settings: SpectrumSettings, reporter: Reporter = SILENT
) -> Iterator[tuple[int, Spectrum]]:
    """Yield iterations of a run and the spectra at their parameters.

    With ``every``, the run is computed again from its settings, to the same bits on such processors; its
    checkpoint is compared at the end.

    Raises
    ------
    UsageError, CheckpointError, StoreError, DataError, ClusterError
    NumericalError
        If a product is not finite, or the run computed again does not lead to its checkpoint.
    """
    from hfnumba.store import open_store  # noqa: PLC0415 - slow to import

    if settings.every is not None and settings.split != "train":
        raise UsageError(
            f"spectra along a run are those of the split 'train', got {settings.split!r}; leave out every or split"
        )
    model, store = load_model(run, settings.checkpoint), open_store(store_path)
    if settings.every is not None and model.record.store.digest != store.digest:
        raise DataError(f"{store.path} is not the store that {run} was trained on: its digest differs; give that one")
    with _objective(model, store, settings, reporter) as objective:
        if settings.every is None:
            yield model.iteration, _spectrum(objective, model.theta, settings, reporter)
        else:
            yield from _along(model, objective, settings, reporter)


def _along(
    model: TrainedModel, objective: RoundObjective, settings: SpectrumSettings, reporter: Reporter
) -> Iterator[tuple[int, Spectrum]]:
    given, every = model.record.settings, settings.every or 1
    made: Any = optimizer_of(given, model.record)
    method = replace(made, max_iterations=model.iteration)
    start = model.network.initialize(given.seed, given.init)  # type: ignore[arg-type]  # it checks the name itself
    progress = reporter.progress("Computing the run again", "iterations")
    theta: Any = start
    for iteration in method.iterate(objective, start):
        theta = iteration.state.theta
        progress(iteration.iteration, model.iteration)
        if iteration.iteration % every == 0 or iteration.iteration == model.iteration:
            yield iteration.iteration, _spectrum(objective, theta, settings)
    if not np.array_equal(theta, model.theta):
        raise NumericalError(
            "the run computed again does not lead to its checkpoint, so these are not its spectra; use the "
            "versions and a processor of the kind that the run had"
        )


class _Counted(Operator):
    """Matrix that counts its products."""

    def __init__(self, matrix: Operator, counter: Counter) -> None:
        self._matrix, self._counter = matrix, counter

    @property
    def shape(self) -> tuple[int, int]:
        return self._matrix.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._matrix.dtype

    def matvec(self, v: NDArray[Any]) -> NDArray[Any]:
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        products = self._matrix.matmat(V)
        self._counter.advance(V.shape[1])
        return products


def _spectrum(
    objective: RoundObjective, theta: Any, settings: SpectrumSettings, reporter: Reporter = SILENT
) -> Spectrum:
    matrix = getattr(objective.linearize(theta, settings.rows), MATRICES[settings.matrix])()
    n_matvec = settings.probes * min(settings.steps, matrix.shape[0])
    matrix = _Counted(matrix, Counter(reporter.progress("Computing the spectrum", "products"), n_matvec))
    try:
        return spectrum(
            matrix, probes=settings.probes, steps=settings.steps, extreme=settings.extreme, seed=settings.seed
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    except ArithmeticError as error:
        raise NumericalError(str(error)) from error


@contextmanager
def _objective(
    model: TrainedModel, store: Store, settings: SpectrumSettings, reporter: Reporter
) -> Iterator[RoundObjective]:
    from hfnumba.engine import DaskObjective, SplitObjective  # noqa: PLC0415 - slow to import
    from hfnumba.engine.held_out import hold_out  # noqa: PLC0415
    from hfnumba.kernels.cache import warm_up  # noqa: PLC0415
    from hfnumba.launch import open_cluster  # noqa: PLC0415
    from hfnumba.store import Split  # noqa: PLC0415

    split: Split | SplitPart = fitted(store[settings.split], model.record.store, model.network, reporter.note)
    given = model.record.settings
    if settings.split == "train" and given.validation_fraction is not None and isinstance(split, Split):
        # The rows that the run was trained on.
        split, _ = hold_out(split, given.validation_fraction, given.seed)
    common: Any = {
        "l2": model.record.settings.l2,
        "class_weights": model.record.store.class_weights or None,
        "reporter": reporter,
    }
    with ExitStack() as stack:
        placement = stack.enter_context(open_cluster(settings.cluster, settings.threads))
        reporter.note(f"running on {placement.description}")
        warm_up(reporter.note, reporter.progress)
        if placement.client is None:
            yield stack.enter_context(SplitObjective(model.network, split, n_threads=settings.threads, **common))
        else:
            yield stack.enter_context(DaskObjective(model.network, split, placement.client, **common))
