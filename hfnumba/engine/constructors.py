"""The objective's three constructors: arrays, a split in this process, a split on a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hfnumba.engine.class_weights import with_class_weights
from hfnumba.engine.host import Job
from hfnumba.engine.local import SerialEngine
from hfnumba.engine.objective import RoundObjective
from hfnumba.engine.progress import CountingEngine, FirstRoundProgress
from hfnumba.engine.protocol import Engine
from hfnumba.engine.rows import ArraySource, Source, as_rows
from hfnumba.errors import UsageError
from hfnumba.network import Network
from hfnumba.progress import SILENT, Reporter

if TYPE_CHECKING:
    from distributed import Client

    from hfnumba.store import Split


def _job(network: Network, source: Source, dtype: DTypeLike, memory: int | None = None, keep: bool = True) -> Job:
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise UsageError(f"dtype must be float32 or float64, got {kind}")
    return Job(uuid.uuid4().hex, network, source, kind, memory, keep)


def _reporting(engine: CountingEngine, split: Split, reporter: Reporter) -> Engine:
    if reporter is SILENT:
        return engine
    return FirstRoundProgress(engine, f"First pass over {split.name}", split.n_partitions, reporter)


class ArrayObjective(RoundObjective):
    """F over arrays in memory, evaluated on threads of this process. No Dask.

    Parameters
    ----------
    network : Network
    X : array_like, shape (n_rows, n_features)
        Finite; uint8 stays uint8, anything else becomes ``dtype`` (a copy unless it has it).
    y : array_like, shape (n_rows,) or (n_rows, n_outputs)
        Labels 0 … n_outputs - 1, or targets.
    l2 : float
        Penalty, see :class:`RoundObjective`.
    n_partitions : int, optional
        Default: one for each 512 rows, 16 at most, two from 257 rows on. The result's bits depend on it, and on
        nothing else but the data.
    n_threads : int, optional
        Default: the processors this process may use.
    dtype : dtype
        float32, or float64 for tests and ill-conditioned problems.
    scale, offset : float
        Features are X * scale + offset, applied block by block.
    weights : array_like, shape (n_rows,), optional
        Weights of the rows, at least 0 and not all 0; see :class:`RoundObjective`. Only their ratios matter.
    """

    def __init__(
        self,
        network: Network,
        X: ArrayLike,
        y: ArrayLike,
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
        job = _job(network, source, dtype)
        as_rows(network, source.X, source.y, job.dtype)
        engine = SerialEngine(job, n_threads)
        super().__init__(network, engine, source.n_rows, l2, job.dtype, weighted=source.weighted)


class SplitObjective(RoundObjective):
    """F over a split of a store, evaluated on threads of this process; the same bits as on any cluster.

    The rows are read when they are first needed, and kept in their stored dtype as far as memory goes; what does not
    fit is read again in each round, to the same bits.

    Parameters
    ----------
    network : Network
    split : Split
    l2 : float
    n_threads : int, optional
    memory : int, optional
        Bytes for rows, samples of them, and primal passes; default: 60 % of the machine's memory.
    keep : bool
        If false, only what is being computed is in memory.
    class_weights : sequence of float, optional
        A weight for each class, times the weights of the rows where the split has them; such as those of
        :func:`hfnumba.store.class_weights.balanced`. See :class:`RoundObjective`.
    reporter : Reporter
        Receiver of the progress of the first round, which reads the rows; called from another thread.
    """

    def __init__(
        self,
        network: Network,
        split: Split,
        *,
        l2: float = 0.0,
        n_threads: int | None = None,
        memory: int | None = None,
        keep: bool = True,
        class_weights: Sequence[float] | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        source = with_class_weights(split, class_weights)
        job = _job(network, source, np.float32, memory, keep)
        engine = _reporting(SerialEngine(job, n_threads), split, reporter)
        super().__init__(network, engine, split.n_rows, l2, job.dtype, weighted=source.weighted)


class DaskObjective(RoundObjective):
    """F over a split of a store, evaluated by the workers of a cluster.

    Every worker must be able to read the store at the split's path, and the client must be able to reach every
    worker directly.

    Parameters
    ----------
    network : Network
    split : Split
    client : distributed.Client
    l2 : float
    timeout_s : float
        A worker that gives no sign of life for so long during a round is restarted, and its partitions go to others.
    fan_in : int, optional
        Where more workers than this are on other machines, the client talks to so many, and these pass rounds on to
        others and add what they answer; the sums have the same bits. Workers must then reach each other.
        Default: :data:`hfnumba.engine.cluster.engine.FAN_IN`.
    memory, keep
        Of each worker, as for :class:`SplitObjective`; default: 60 % of the worker's memory.
    class_weights, reporter
        As for :class:`SplitObjective`.
    """

    def __init__(
        self,
        network: Network,
        split: Split,
        client: Client,
        *,
        l2: float = 0.0,
        timeout_s: float = 60.0,
        fan_in: int | None = None,
        memory: int | None = None,
        keep: bool = True,
        class_weights: Sequence[float] | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        from hfnumba.engine.cluster.engine import FAN_IN, DaskEngine  # noqa: PLC0415 - only this class needs Dask

        source = with_class_weights(split, class_weights)
        job = _job(network, source, np.float32, memory, keep)
        engine = DaskEngine(job, client, timeout_s, FAN_IN if fan_in is None else fan_in)
        reporting = _reporting(engine, split, reporter)
        super().__init__(network, reporting, split.n_rows, l2, job.dtype, weighted=source.weighted)
        self._sharing = engine.sharing

    def sharing(self) -> tuple[int, int]:
        """How many of the workers see this process's memory, and how many there are; asks the scheduler."""
        return self._sharing()
