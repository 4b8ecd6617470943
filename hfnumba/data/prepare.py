"""From arrays as they come to rows as they are stored: checked, in the smallest dtype, in a seeded order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.data.layout import SPLITS, SplitLayout
from hfnumba.data.manifest import Task
from hfnumba.data.watching import Step, Steps, Watch, unwatched
from hfnumba.errors import DataError, UsageError

BLOCK = 65_536
"""Rows that are looked at together."""

SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-12, 1e12
"""Only ratios of weights matter. Between these, sums over any number of rows keep their digits in float32."""


@dataclass(frozen=True)
class Prepared:
    """Checked rows and the order they are stored in.

    Attributes
    ----------
    splits : dict of str to (ndarray, ndarray)
        ``X`` of shape (n, n_features) and ``y`` of each split in their stored dtypes, in the order of the
        source.
    orders : dict of str to ndarray of int
        Row numbers of each split in the order in which they are stored.
    task : {"classification", "regression"}
    n_classes : int or None
    weights : dict of str to ndarray of float32
        Weights of the rows of those splits that have them, in the order of the source.
    """

    splits: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    orders: dict[str, NDArray[np.intp]]
    task: Task
    n_classes: int | None
    weights: dict[str, NDArray[np.float32]]

    def part(self, name: str, layout: SplitLayout, j: int) -> dict[str, NDArray[Any]]:
        """Return the stored rows of partition ``j`` of a split; new arrays."""
        X, y = self.splits[name]
        start, stop = layout.bounds(j)
        taken = self.orders[name][start:stop]
        # Parts come one after another in one thread, and the C library gives the next the memory of the last.
        rows: NDArray[Any] = np.empty((len(taken), X.shape[1]), X.dtype)
        np.take(X, taken, axis=0, out=rows, mode="clip")
        held = {"X": rows, "y": y[taken]}
        return held | {"weights": self.weights[name][taken]} if name in self.weights else held


def prepare(
    splits: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    task: Task | None = None,
    n_classes: int | None = None,
    rows: int | None = None,
    seed: int = 0,
    subsets: Mapping[str, NDArray[np.intp]] | None = None,
    watch: Watch = unwatched,
    weights: Mapping[str, ArrayLike] | None = None,
) -> Prepared:
    """Check rows and bring them into their stored form.

    Parameters
    ----------
    splits : mapping of str to (X, y)
        ``X`` with rows along its first axis (further axes are flattened), ``y`` with as many.
    task : {"classification", "regression"}, optional
        By default regression if the training targets are floating-point numbers.
    n_classes : int, optional
        By default the largest label plus one.
    rows : int, optional
        Keep this many rows of the shuffled training split; the others are kept whole.
    seed : int
        Key of the shuffle.
    subsets : mapping of str to ndarray of int, optional
        Which rows of its arrays a split takes, where it does not take all.
    watch : callable, optional
        Told how many rows were looked at.
    weights : mapping of str to array_like, optional
        Weights of all rows of a split's arrays, for those that have them.

    Raises
    ------
    DataError
        For features or targets that are not finite, labels that are no class, weights that are none, unequal lengths,
        no rows, or splits that do not match: with the count and the first place.
    UsageError
        If ``rows`` or ``seed`` is impossible.
    """
    if "train" not in splits or not set(splits) <= set(SPLITS):
        raise DataError(f"expected a split train and at most {', '.join(SPLITS)}, got {sorted(splits)}")
    raw = {name: _aligned(name, *splits[name]) for name in SPLITS if name in splits}
    if task is None:
        task = "regression" if raw["train"][1].dtype.kind == "f" else "classification"
    n_features = raw["train"][0].shape[1]
    for name, (X, _) in raw.items():
        if X.shape[1] != n_features:
            raise DataError(f"{name} has {X.shape[1]} features a row, train has {n_features}; expected the same")
    small = all(_is_byte(X) for X, _ in raw.values())
    steps = Steps(watch("Checking rows", "rows"), sum(len(X) for X, _ in raw.values()))
    features = {
        name: X.astype(np.uint8, copy=False) if small else checked_features(name, X, steps.step)
        for name, (X, _) in raw.items()
    }
    if task == "classification":
        labels = {name: checked_labels(name, y, n_classes) for name, (_, y) in raw.items()}
        n_classes = n_classes or max(int(y.max()) for y in labels.values()) + 1
        if n_classes < 2:
            raise DataError("all labels are 0, expected at least 2 classes; give n_classes if others exist")
        targets = {name: y.astype(label_dtype(n_classes), copy=False) for name, y in labels.items()}
    else:
        n_classes = None
        targets = {name: _targets(name, y) for name, (_, y) in raw.items()}
        if len({y.shape[1] for y in targets.values()}) > 1:
            raise DataError("the splits have targets of unequal width, expected the same number of outputs")
    orders = {name: _order(name, len(X), seed, (subsets or {}).get(name)) for name, X in features.items()}
    if rows is not None:
        if not 1 <= rows <= len(orders["train"]):
            raise UsageError(f"expected rows from 1 to the {len(orders['train'])} training rows there are, got {rows}")
        orders["train"] = orders["train"][:rows]
    own = {
        name: _stored_weights(name, given, len(features[name]), orders[name]) for name, given in (weights or {}).items()
    }
    return Prepared({name: (features[name], targets[name]) for name in features}, orders, task, n_classes, own)


def shuffle(purpose: str, n: int, seed: int) -> NDArray[np.intp]:
    """Permute ``n`` row numbers, depending on nothing but the arguments, in any version of NumPy.

    The rows are sorted by the raw stream of a Philox generator: ``Generator.permutation`` may change between
    versions.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected a seed from 0 to 2**63 - 1, got {seed}")
    key = np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode()))
    drawn = np.random.Philox(key).random_raw(n)
    order = np.argsort(drawn)
    # The fast sort may put equal numbers in any order. 64 bits are hardly ever equal.
    return np.argsort(drawn, kind="stable") if np.any(np.diff(drawn[order]) == 0) else order


def _order(name: str, n: int, seed: int, subset: NDArray[np.intp] | None) -> NDArray[np.intp]:
    return shuffle(name, n, seed) if subset is None else subset[shuffle(name, len(subset), seed)]


def hold_out_rows(n: int, seed: int, fraction: float) -> dict[str, NDArray[np.intp]]:
    """Split row numbers into train and test, at least one each: the seed draws the fraction that is the test."""
    if n < 2:
        raise DataError(f"expected at least 2 rows or utterances to hold some out for the test, got {n}")
    order = shuffle("hold-out", n, seed)
    n_test = min(n - 1, max(1, round(n * fraction)))
    return {"train": order[n_test:], "test": order[:n_test]}


def hold_out(X: NDArray[Any], y: NDArray[Any], seed: int) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Split rows into train and test: a fifth of them, rounded up, drawn by the seed, is the test."""
    if len(X) != len(y) or len(X) < 2:
        raise DataError(f"expected as many labels as rows and at least 2, got {len(X)} rows and {len(y)} labels")
    order = shuffle("hold-out", len(X), seed)
    n_test = -(-len(X) // 5)
    test, train = order[:n_test], order[n_test:]
    return {"train": (X[train], y[train]), "test": (X[test], y[test])}


def hold_out_names(names: Sequence[str], seed: int, fraction: float) -> tuple[list[str], list[str]]:
    """Split names into train and test as :func:`hold_out_rows` splits rows."""
    ordered = sorted(names)
    rows = hold_out_rows(len(ordered), seed, fraction)
    return [ordered[i] for i in rows["train"]], [ordered[i] for i in rows["test"]]


def _aligned(name: str, features: ArrayLike, targets: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    X, y = np.asarray(features), np.asarray(targets)
    if X.ndim < 2 or y.ndim < 1:
        raise DataError(
            f"{name}: expected X with rows and features and y with a row each, got shapes {X.shape} and {y.shape}"
        )
    if len(X) != len(y):
        raise DataError(f"{name}: X has {len(X)} rows and y has {len(y)}, expected as many")
    if X.size == 0:
        raise DataError(f"{name} has no rows or no features (shape {X.shape}), expected at least one of each")
    for what, array in (("features", X), ("targets", y)):
        if array.dtype.kind not in "buif":
            raise DataError(f"{name}: {what} have dtype {array.dtype}, expected real numbers")
    return X.reshape(len(X), -1), y


def _is_byte(X: NDArray[Any]) -> bool:
    """Whether whole-number features fit a byte; floating-point features are left what they are."""
    return X.dtype.kind in "bui" and (X.dtype in (bool, np.uint8) or bool(X.min() >= 0 and X.max() <= 255))


def checked_features(name: str, X: NDArray[Any], step: Step | None = None) -> NDArray[np.float32]:
    """Bring features into float32, or refuse them with the count and the first place of what is not finite there.

    ``step`` is called with the rows of each block.
    """
    with np.errstate(over="ignore"):
        values = X.astype(np.float32, copy=False)
    for first in range(0, len(values), BLOCK):
        # Only an array with a fault is looked at as a whole: it may be a file larger than memory.
        block = values[first : first + BLOCK]
        if not np.isfinite(block).all():
            _refuse(name, "features are not finite in float32 (NaN, infinite or too large)", ~np.isfinite(values), X)
        if step is not None:
            step(len(block))
    return values


def _targets(name: str, y: NDArray[Any]) -> NDArray[np.float32]:
    if y.ndim > 2:
        raise DataError(f"{name}: targets have shape {y.shape}, expected (rows,) or (rows, n_outputs)")
    with np.errstate(over="ignore"):
        values = y.reshape(len(y), -1).astype(np.float32, copy=False)
    if values.shape[1] == 0:
        raise DataError(f"{name}: targets have shape {y.shape}, expected at least one output")
    _refuse(name, "targets are not finite in float32 (NaN, infinite or too large)", ~np.isfinite(values), y)
    return values


def checked_labels(name: str, y: NDArray[Any], n_classes: int | None) -> NDArray[np.int64]:
    """Bring class numbers into int64, or refuse them with the count and the first place of those that are none."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{name}: labels have shape {y.shape}, expected one class number a row (not one-hot)")
    if y.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            _refuse(name, "labels are not whole numbers", ~np.isfinite(y) | (y != np.floor(y)), y)
    limit = 2**31 - 1 if n_classes is None else n_classes
    top = f"{n_classes - 1}" if n_classes else "2147483646"
    _refuse(name, f"labels are out of range (expected 0 to {top})", (y < 0) | (y >= limit), y)
    return y.astype(np.int64)


def checked_weights(name: str, weights: ArrayLike, n: int, of: str = "row") -> NDArray[np.float64]:
    """Bring weights into float64, or refuse them with the count and the first place of those that are none.

    ``of`` says what each of the ``n`` belongs to.

    Raises
    ------
    DataError
        If there are not ``n`` numbers, some are negative, not finite, or beyond what float32 sums well, or all
        are 0.
    """
    values = np.asarray(weights)
    if values.shape not in ((n,), (n, 1)) or values.dtype.kind not in "buif":
        raise DataError(f"{name}: expected {n} weights, one for each {of}, got {values.dtype} of shape {values.shape}")
    own = values.reshape(-1).astype(np.float64)
    _refuse(name, "weights are negative, NaN or infinite", ~(np.isfinite(own) & (own >= 0)), own, of)
    beyond = (own > 0) & ((own < SMALLEST_WEIGHT) | (own > LARGEST_WEIGHT))
    _refuse(
        name,
        f"weights are neither 0 nor within {SMALLEST_WEIGHT:g} … {LARGEST_WEIGHT:g} (rescale: only ratios matter)",
        beyond,
        own,
        of,
    )
    if not own.any():
        raise DataError(f"{name}: all {n} weights are 0; at least one {of} must count")
    return own


def _stored_weights(name: str, given: ArrayLike, n_rows: int, order: NDArray[np.intp]) -> NDArray[np.float32]:
    own = checked_weights(name, given, n_rows)
    if not own[order].any():
        raise DataError(f"{name}: all weights of the {len(order)} rows that are kept are 0; at least one must count")
    return own.astype(np.float32)


def label_dtype(n_classes: int) -> type[np.uint8 | np.uint16 | np.int32]:
    """Choose the smallest dtype that labels are stored in."""
    if n_classes <= 2**8:
        return np.uint8
    return np.uint16 if n_classes <= 2**16 else np.int32


def _refuse(name: str, what: str, bad: NDArray[np.bool_], values: NDArray[Any], of: str = "row") -> None:
    """Raise with the count and the first place of what is bad."""
    count = int(np.count_nonzero(bad))
    if not count:
        return
    first = int(np.argmax(bad))
    row, column = divmod(first, bad.size // len(bad))
    place = f"{of} {row}, column {column}" if bad.size > len(bad) else f"{of} {row}"
    raise DataError(
        f"{name}: {count} of {bad.size} {what}; the first is {values.reshape(-1)[first]} at {place} (counted from 0)"
    )
