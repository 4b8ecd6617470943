"""Fitting on Dask arrays and stores, in this process or on a cluster, and lazy predictions."""

from __future__ import annotations

from typing import Any


def is_lazy(X: Any) -> bool:
    """Whether this is an array of Dask."""
    return hasattr(X, "__dask_graph__") and hasattr(X, "map_blocks")


def is_remote(estimator: Any, X: Any) -> bool:
    return False


def fit(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    raise NotImplementedError


def lazily(estimator: Any, X: Any) -> Any:
    raise NotImplementedError
