"""Seeded shuffling of rows, and hold-out of rows or utterances for the splits ``test`` and ``validation``."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, UsageError


def shuffle(purpose: str, n: int, seed: int) -> NDArray[np.intp]:
    """Return a permutation of ``n`` row numbers that depends only on the arguments, in every version of NumPy.

    The rows are sorted by the raw stream of a Philox generator, because ``Generator.permutation`` may change between
    versions.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected a seed from 0 to 2**63 - 1, got {seed}")
    key = np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode()))
    drawn = np.random.Philox(key).random_raw(n)
    order = np.argsort(drawn)
    # The default sort may put equal numbers in any order; equal 64-bit numbers are very rare.
    return np.argsort(drawn, kind="stable") if np.any(np.diff(drawn[order]) == 0) else order


def hold_out_rows(n: int, seed: int, fraction: float) -> dict[str, NDArray[np.intp]]:
    """Split row numbers into train and test, at least one each; the seed draws a fraction for the test."""
    if n < 2:
        raise DataError(f"expected at least 2 rows or utterances to hold some out for the test, got {n}")
    order = shuffle("hold-out", n, seed)
    n_test = min(n - 1, max(1, round(n * fraction)))
    return {"train": order[n_test:], "test": order[:n_test]}


def hold_out(X: NDArray[Any], y: NDArray[Any], seed: int) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Split rows into train and test; the seed draws a fifth of them, rounded up, for the test."""
    if len(X) != len(y) or len(X) < 2:
        raise DataError(f"expected as many labels as rows and at least 2, got {len(X)} rows and {len(y)} labels")
    order = shuffle("hold-out", len(X), seed)
    n_test = -(-len(X) // 5)
    test, train = order[:n_test], order[n_test:]
    return {"train": (X[train], y[train]), "test": (X[test], y[test])}


def divided[Order: NDArray[Any] | list[Any]](order: Order, fraction: float) -> tuple[Order, Order]:
    """Divide shuffled rows or utterances into those to train on, and a share for validation from their end.

    At least one of each.

    Raises
    ------
    UsageError
        If the share is not above 0 and below 1.
    DataError
        If there are fewer than 2.
    """
    n = len(order)
    if not 0 < fraction < 1:
        raise UsageError(f"expected a share of the training rows for validation above 0 and below 1, got {fraction}")
    if n < 2:
        raise DataError(f"expected at least 2 training rows or utterances to hold some out for validation, got {n}")
    n_validation = min(n - 1, math.ceil(n * fraction))
    return order[: n - n_validation], order[n - n_validation :]  # type: ignore[return-value]  # slices of an array or a list


def refuse_second(names: Collection[str]) -> None:
    """Refuse to hold out training rows for validation if the source has a split for it.

    Raises
    ------
    UsageError
    """
    if "validation" in names:
        raise UsageError("the source has a split validation already; leave out --validation")


def hold_out_names(names: Sequence[str], seed: int, fraction: float) -> tuple[list[str], list[str]]:
    """Split names into train and test as :func:`hold_out_rows` splits rows."""
    ordered = sorted(names)
    rows = hold_out_rows(len(ordered), seed, fraction)
    return [ordered[i] for i in rows["train"]], [ordered[i] for i in rows["test"]]
