"""Rows of Dask arrays, and rows that the workers of a cluster evaluate: by way of a store for the time of a fit."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine import DaskObjective, RoundObjective, SplitObjective
from hfnumba.errors import DataError
from hfnumba.estimator.rows import Rows
from hfnumba.estimator.scaling import Scaling, scaling_of
from hfnumba.estimator.settings import thread_count
from hfnumba.ingest import write_store
from hfnumba.network import Network

if TYPE_CHECKING:
    from distributed import Client


def is_lazy(X: Any) -> bool:
    """Whether this is an array or a data frame of Dask."""
    return hasattr(X, "__dask_graph__") and (hasattr(X, "map_blocks") or hasattr(X, "to_dask_array"))


def lazy_features(model: Any, X: Any, *, reset: bool) -> Any:
    """Return features as an array of Dask with whole rows in each chunk; check or set the model's number of features.

    Raises
    ------
    DataError
        If they are not rows of numbers, or have another number of columns than those of the first fit.
    """
    names = np.asarray(X.columns, object) if hasattr(X, "columns") else None
    array = X.to_dask_array(lengths=True) if hasattr(X, "to_dask_array") else X
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise DataError(
            f"expected X of rows of numbers, got {array.dtype} of shape {array.shape}; encode other columns"
        )
    if np.isnan(array.shape).any():
        array = array.compute_chunk_sizes()
    if reset:
        model._set_features(int(array.shape[1]), [] if names is None else names.tolist())
    if array.shape[1] != model.n_features_in_:
        raise DataError(f"expected X of {model.n_features_in_} features, as in the first fit, got {array.shape[1]}")
    known = getattr(model, "feature_names_in_", None)
    if names is not None and known is not None and names.tolist() != known.tolist():
        raise DataError(
            f"expected the columns {', '.join(map(str, known))} in this order, got {', '.join(map(str, names))}"
        )
    return array.rechunk({1: -1})


def in_memory(values: Any) -> Any:
    """Return labels, targets or weights in memory; arrays and frames of Dask are computed."""
    return values.compute() if hasattr(values, "__dask_graph__") else values


def lazily(X: Any, function: Any, n_outputs: int) -> Any:
    """Return the array of Dask of a function of rows (n, n_features) that returns float32 (n, n_outputs)."""
    return X.map_blocks(function, dtype=np.float32, chunks=(X.chunks[0], (n_outputs,)), meta=np.empty((0, 0), "f4"))


def measure_lazily(what: str, X: Any, weights: NDArray[np.float64] | None) -> Scaling:
    """Return mean and deviation of the columns of an array of Dask, over rows with weights. Two passes.

    Raises
    ------
    DataError
        If they are not finite.
    """
    import dask.array as da  # noqa: PLC0415 - only Dask's users have an array of Dask

    values = X.astype(np.float64)
    own = None if weights is None else da.from_array(weights, chunks=(X.chunks[0],))
    mean = np.asarray(da.average(values, axis=0, weights=own).compute())
    squares = np.asarray(da.average((values - mean) ** 2, axis=0, weights=own).compute())
    return scaling_of(what, mean, squares, whole=X.dtype.kind != "f")


@contextlib.contextmanager
def stored_objective(
    network: Network, rows: Rows, scaling: Scaling | None, client: Client | None, *, l2: float, n_threads: int | None
) -> Iterator[RoundObjective]:
    """Write rows to a store that lasts as long as the objective over them, which workers evaluate if there is a client.

    The store is in the folder for temporary files (``TMPDIR``).
    """
    labels = network.takes_labels
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hfnumba-fit-"))
        if client is not None:
            stack.enter_context(client.as_current())
        arrays = (_standardised(rows.X, scaling), rows.y, *([] if rows.weights is None else [rows.weights]))
        store = write_store(
            f"{folder}/rows.zarr",
            {"train": arrays},
            task="classification" if labels else "regression",
            n_classes=network.n_outputs if labels else None,
        )
        if client is None:
            split = store["train"]
            threads = thread_count(n_threads, network, split.n_rows)
            yield stack.enter_context(SplitObjective(network, split, l2=l2, n_threads=threads))
        else:
            yield stack.enter_context(DaskObjective(network, store["train"], client, l2=l2))


def _standardised(X: Any, scaling: Scaling | None) -> Any:
    """Return features as they are to be stored, lazily where they are lazy or sparse."""
    if is_lazy(X):
        return X if scaling is None else X.map_blocks(scaling.apply, dtype=np.float32)
    dense = X.toarray() if hasattr(X, "toarray") else X
    return dense if scaling is None else scaling.apply(dense)
