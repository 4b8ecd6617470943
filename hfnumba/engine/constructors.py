"""The objective's three constructors: arrays, a split in this process, a split on a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hfnumba.engine.class_weights import with_class_weights
from hfnumba.engine.held_out import SplitPart
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.objective import RoundObjective
from hfnumba.engine.progress import CountingEngine, FirstRoundProgress
from hfnumba.engine.protocol import Companion, Engine, Problem
from hfnumba.engine.rows import ArraySource, RowSource, as_rows
from hfnumba.errors import DataError, UsageError
from hfnumba.network import Network
from hfnumba.progress import SILENT, Reporter
from hfnumba.store.rounding import refuse_rounded
from hfnumba.store.split import Split

if TYPE_CHECKING:
    from distributed import Client


def _problem(
    network: Network,
    source: RowSource,
    dtype: DTypeLike,
    *,
    memory: int | None = None,
    cache_rows: bool = True,
    companion: Companion | None = None,
) -> Problem:
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise UsageError(f"expected dtype float32 or float64, got {kind}; choose one of them")
    if source.autoencodes:
        network.require_autoencoder()
    return Problem(uuid.uuid4().hex, network, source, kind, memory, cache_rows, companion)


def _as_taken(split: Split | SplitPart, network: Network) -> Split | SplitPart:
    """Split whose targets are as the loss takes them: only squared error takes standardised ones."""
    if isinstance(split, SplitPart):
        whole = _as_taken(split.split, network)
        assert isinstance(whole, Split)
        return replace(split, split=whole)
    if split.target_standardisation is None or network.takes_scaled_targets:
        return split
    return replace(split, target_standardisation=None)


def _reporting(engine: CountingEngine, split: Split | SplitPart, reporter: Reporter) -> Engine:
    if reporter is SILENT:
        return engine
    return FirstRoundProgress(engine, f"First pass over {split.name}", split.n_partitions, reporter)


class ArrayObjective(RoundObjective):
    """The objective f over arrays in memory, evaluated on threads of this process, without Dask.

    Parameters
    ----------
    network : Network
        Network whose loss is averaged.
    X : array_like, shape (n_rows, n_features)
        Features, finite; uint8 stays uint8, anything else becomes ``dtype`` (a copy unless it has it).
    y : array_like, shape (n_rows,) or (n_rows, n_outputs), or None
        Labels 0 … n_outputs - 1, or targets. None trains an autoencoder: the targets are the scaled features, of which
        no copy is made; the loss is squared error, or sigmoid cross-entropy for features in [0, 1].
    l2 : float
        Factor of the penalty, see :class:`RoundObjective`.
    n_partitions : int, optional
        Number of partitions; by default one for each 512 rows, 16 at most, two from 257 rows on. The result's bits
        depend on it, and on nothing else but the data.
    n_threads : int, optional
        Number of threads; by default the processors this process may use.
    dtype : dtype
        Dtype of parameters and arithmetic: float32, or float64 for tests and ill-conditioned problems.
    scale, offset : float
        Affine map of the features, X * scale + offset, applied block by block.
    weights : array_like, shape (n_rows,), optional
        Weights of the rows, at least 0 and not all 0; only their ratios matter.

    Raises
    ------
    UsageError
        If an argument is out of its range, or the network and the arrays do not fit.
    DataError
        If features, targets or weights are not usable for training; the message names the first row.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import ArrayObjective, Network
    >>> X = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> network = Network([1, 8, 1], loss="squared_error")
    >>> objective = ArrayObjective(network, X, X**2, l2=1e-3)
    >>> value, gradient = objective.value_and_gradient(network.initialize(seed=0))
    >>> gradient.shape, objective.counters.rounds
    ((25,), 1)
    """

    def __init__(
        self,
        network: Network,
        X: ArrayLike,
        y: ArrayLike | None,
        *,
        l2: float = 0.0,
        n_partitions: int | None = None,
        n_threads: int | None = None,
        dtype: DTypeLike = np.float32,
        scale: float = 1.0,
        offset: float = 0.0,
        weights: ArrayLike | None = None,
    ) -> None:
        source = ArraySource.of(X, y, n_partitions, scale, offset, weights=weights)
        problem = _problem(network, source, dtype)
        with np.errstate(over="ignore"):
            rows = as_rows(network, source.X, source.y, problem.dtype, scale=scale, offset=offset)
        for what, values in (("features", rows.X), ("targets", rows.targets)):
            if not np.isfinite(values).all():
                where = np.argwhere(~np.isfinite(values))
                raise DataError(
                    f"{len(where)} of the {what} are too large for {problem.dtype}, the first in row {where[0][0]}; "
                    "rescale them, or set dtype to float64"
                )
        if problem.dtype == np.float32:
            refuse_rounded("feature", source.X, "subtract an offset first, or set dtype to float64")
            if source.y is not None and rows.targets.size:
                refuse_rounded("target", source.y, "subtract an offset first, or set dtype to float64")
        engine = LocalEngine(problem, n_threads)
        super().__init__(problem, engine, l2)


class SplitObjective(RoundObjective):
    """The objective f over a split of a store, evaluated on threads of this process; the same bits as on any cluster.

    The rows are read when they are first needed, and cached in their stored dtype as far as memory goes; what does not
    fit is read again in each round, to the same bits.

    Parameters
    ----------
    network : Network
        Network whose loss is averaged.
    split : Split or SplitPart
        Rows of a store, such as ``open_store(path)["train"]``. Its :meth:`~hfnumba.store.Split.autoencoder` trains an
        autoencoder.
    l2 : float
        Factor of the penalty, see :class:`RoundObjective`.
    n_threads : int, optional
        Number of threads; by default the processors this process may use.
    memory : int, optional
        Bytes for rows, samples of them, and primal passes; default: 60 % of what the machine or
        container has beside the interpreter.
    cache_rows : bool
        Whether rows stay in memory between rounds. If false, only those that are being computed are in memory.
    companion : Companion, optional
        Rows of another objective with which this one shares the memory.
    class_weights : sequence of float, optional
        A weight for each class, times the weights of the rows where the split has them; such as those of
        :func:`hfnumba.store.class_weights.balanced`. See :class:`RoundObjective`.
    reporter : Reporter
        Receiver of the progress of the first round, which reads the rows; called from another thread.

    Raises
    ------
    UsageError
        If an argument is out of its range, or the network and the split do not fit.
    StoreError
        If a file of the store is missing or damaged; raised by the first round.
    """

    def __init__(
        self,
        network: Network,
        split: Split | SplitPart,
        *,
        l2: float = 0.0,
        n_threads: int | None = None,
        memory: int | None = None,
        cache_rows: bool = True,
        companion: Companion | None = None,
        class_weights: Sequence[float] | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        source = with_class_weights(_as_taken(split, network), class_weights)
        problem = _problem(network, source, np.float32, memory=memory, cache_rows=cache_rows, companion=companion)
        engine = _reporting(LocalEngine(problem, n_threads), split, reporter)
        super().__init__(problem, engine, l2)


class DaskObjective(RoundObjective):
    """The objective f over a split of a store, evaluated by the workers of a cluster.

    Every worker must be able to read the store at the split's path, and the client must be able to reach every
    worker directly.

    Parameters
    ----------
    network : Network
        Network whose loss is averaged.
    split : Split or SplitPart
        Rows of a store, such as ``open_store(path)["train"]``.
    client : distributed.Client
        Client of the cluster, which has at least one worker.
    l2 : float
        Factor of the penalty, see :class:`RoundObjective`.
    timeout_s : float
        Seconds without a sign of life during a round after which a worker is restarted, and others get its partitions.
    fan_in : int, optional
        Maximum number of workers on other machines contacted directly by the client and by each relaying worker.
        Where there are more, these pass rounds on to others and add their answers; the sums have the same bits. Workers
        must then reach each other. Default: :data:`hfnumba.engine.cluster.engine.FAN_IN`.
    memory : int, optional
        Bytes of each worker for rows, samples of them, and primal passes; default: 60 % of what the worker has.
    cache_rows : bool
        Whether rows stay in the workers' memory between rounds, as for :class:`SplitObjective`.
    companion : Companion, optional
        Rows of another objective with which this one shares the memory.
    class_weights : sequence of float, optional
        A weight for each class, as for :class:`SplitObjective`.
    reporter : Reporter
        Receiver of the progress of the first round, which reads the rows; called from another thread.

    Raises
    ------
    UsageError
        If an argument is out of its range, or the network and the split do not fit.
    ClusterError
        If all workers are lost; raised by a round.

    Notes
    -----
    An evaluation costs one round: vectors that the workers do not have go out, one sum comes back. A worker that is
    lost costs its partitions' work again, and the sums have the same bits.
    """

    def __init__(
        self,
        network: Network,
        split: Split | SplitPart,
        client: Client,
        *,
        l2: float = 0.0,
        timeout_s: float = 60.0,
        fan_in: int | None = None,
        memory: int | None = None,
        cache_rows: bool = True,
        companion: Companion | None = None,
        class_weights: Sequence[float] | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        from hfnumba.engine.cluster.engine import FAN_IN, DaskEngine  # noqa: PLC0415 - only this class needs Dask

        source = with_class_weights(_as_taken(split, network), class_weights)
        problem = _problem(network, source, np.float32, memory=memory, cache_rows=cache_rows, companion=companion)
        engine = DaskEngine(problem, client, timeout_s, FAN_IN if fan_in is None else fan_in)
        super().__init__(problem, _reporting(engine, split, reporter), l2)
        self._sharing = engine.sharing

    def sharing(self) -> tuple[int, int]:
        """Return how many workers share memory with this process, and how many there are; asks the scheduler.

        Returns
        -------
        tuple of int
            The two numbers.
        """
        return self._sharing()
