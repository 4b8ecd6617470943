"""Facts about a run that some training rows show: ranges of features, labels, and units of relu that are dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, HfnumbaError
from hfnumba.path_text import text_path

if TYPE_CHECKING:
    from hfnumba.network import Network
    from hfnumba.run.records import StoreRecord
    from hfnumba.store import Split

MAX_ROWS = 4096
"""Number of rows that are looked at, of the first partitions; rows are shuffled, so that they are a fair sample."""


@dataclass(frozen=True)
class SampleFacts:
    """Facts about some training rows, with the features as the network sees them.

    Attributes
    ----------
    n_rows : int
        Number of training rows of the store.
    n_seen : int
        Number of rows that were looked at.
    mean, deviation : ndarray, shape (n_features,)
        Mean and standard deviation of each feature.
    largest_share : float
        Share of the most frequent class; of the most frequent value of the first target for regression.
    dead : tuple of (int, int, int)
        For each hidden layer of relu units: its number, the number of units that are 0 for all rows, and that of all.
    """

    n_rows: int
    n_seen: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    largest_share: float
    dead: tuple[tuple[int, int, int], ...] = ()


def sample_facts(record: StoreRecord, network: Network, theta: NDArray[Any]) -> SampleFacts | None:
    """Look at some training rows; None if the store is no longer at its place, or is another one.

    Reads as many partitions as hold ``MAX_ROWS`` rows, at least one. Evaluates the network up to each layer of relu.
    """
    from hfnumba.store import open_store  # noqa: PLC0415 - slow to import

    try:
        store = open_store(text_path(record.path))
        if store.digest != record.digest:
            return None
        X, y = _rows(store["train"])
    except HfnumbaError:
        return None
    X = X.astype(np.float64) * record.scale + record.offset
    values = y if y.ndim == 1 else y[:, 0]
    _, counts = np.unique(values, return_counts=True)
    dead = _dead_units(network, theta, X)
    return SampleFacts(store["train"].n_rows, len(X), X.mean(0), X.std(0), counts.max() / len(X), dead)


def _rows(split: Split) -> tuple[NDArray[Any], NDArray[Any]]:
    parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for j in range(split.n_partitions):
        parts.append(split.load(j))
        if sum(len(X) for X, _ in parts) >= MAX_ROWS:
            break
    X, y = (np.concatenate(some) for some in zip(*parts, strict=True))
    return X[:MAX_ROWS], y[:MAX_ROWS]


def _dead_units(network: Network, theta: NDArray[Any], X: NDArray[np.float64]) -> tuple[tuple[int, int, int], ...]:
    from hfnumba.engine import predict  # noqa: PLC0415 - slow to import
    from hfnumba.network import Network  # noqa: PLC0415

    found = []
    for number, activation in enumerate(network.activations, start=1):
        if activation != "relu":
            continue
        # The layers up to this one, whose parameters are the first ones; its outputs are not activated.
        part = Network(network.sizes[: number + 1], network.activations[: number - 1], "squared_error")
        try:
            values = predict(part, theta[: part.n_params], X)
        except DataError:
            # They are not finite, which is another finding.
            break
        found.append((number, int((values <= 0).all(0).sum()), values.shape[1]))
    return tuple(found)
