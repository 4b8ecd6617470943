"""Preparing arrays for storage: checks, the smallest dtype, and a seeded order of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.errors import DataError, UsageError
from hfnumba.ingest.shuffle import divided, refuse_second, shuffle
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import checked_features, checked_labels, checked_weights, label_dtype, refuse
from hfnumba.store.layout import SPLITS, SplitLayout
from hfnumba.store.manifest import Task
from hfnumba.store.rounding import Ranges, refuse_rounded
from hfnumba.store.standardise import subtract

Pairs = dict[str, tuple[NDArray[Any], NDArray[Any]]]

ADVICE = "standardise, which subtracts an offset before rounding, or subtract one first"
TARGETS_ADVICE = "subtract an offset from the targets first"


@dataclass(frozen=True)
class Prepared:
    """Checked rows and the order in which they are stored.

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
        Weights of the rows, for splits that have weights, in the order of the source.
    origin : ndarray of float64 or None
        What was subtracted from the features of the source before they were rounded to float32.
    """

    splits: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    orders: dict[str, NDArray[np.intp]]
    task: Task
    n_classes: int | None
    weights: dict[str, NDArray[np.float32]]
    origin: NDArray[np.float64] | None = None

    def partition(self, name: str, layout: SplitLayout, j: int) -> dict[str, NDArray[Any]]:
        """Return the stored rows of partition ``j`` of a split as new arrays."""
        X, y = self.splits[name]
        start, stop = layout.bounds(j)
        taken = self.orders[name][start:stop]
        # Partitions come one after another in one thread, so the C library reuses the memory of the one before.
        rows: NDArray[Any] = np.empty((len(taken), X.shape[1]), X.dtype)
        np.take(X, taken, axis=0, out=rows, mode="clip")
        arrays = {"X": rows, "y": y[taken]}
        return arrays | {"weights": self.weights[name][taken]} if name in self.weights else arrays


def prepare(
    splits: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    task: Task | None = None,
    n_classes: int | None = None,
    rows: int | None = None,
    seed: int = 0,
    subsets: Mapping[str, NDArray[np.intp]] | None = None,
    reporter: Reporter = SILENT,
    weights: Mapping[str, ArrayLike] | None = None,
    standardise: bool = False,
    origin: NDArray[np.float64] | None = None,
    validation: float | None = None,
) -> Prepared:
    """Check rows and convert them to their stored form.

    Parameters
    ----------
    splits : mapping of str to (X, y)
        ``X`` with rows along its first axis (further axes are flattened), and ``y`` with as many rows.
    task : {"classification", "regression"}, optional
        Task; default regression if the training targets are floating-point numbers.
    n_classes : int, optional
        Number of classes; default the largest label plus one.
    rows : int, optional
        Number of rows to take of the shuffled training split; the other splits are not shortened.
    seed : int
        Seed of the shuffle.
    subsets : mapping of str to ndarray of int, optional
        Row numbers that a split takes from its arrays; default all.
    reporter : Reporter
        Receiver of the progress.
    weights : mapping of str to array_like, optional
        Weights of all rows of a split's arrays, for splits that have weights.
    standardise : bool
        Whether an origin may be subtracted from features that rounding to float32 would make the same.
    origin : ndarray of float64, optional
        Origin that was already subtracted.
    validation : float, optional
        Share of the training rows, the last of the shuffled order, that make the split ``validation``.

    Raises
    ------
    DataError
        For features or targets that are not finite, invalid labels, invalid weights, unequal lengths, no rows, or
        splits that do not match. The message says how many values are invalid and where the first one is.
    UsageError
        If ``rows``, ``seed`` or ``validation`` is out of range, or there is a split ``validation`` already.
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
    small = all(fits_bytes(X) for X, _ in raw.values())
    if origin is None and not small:
        raw, origin = _centred(raw, standardise=standardise)
    counter = Counter(reporter.progress("Checking rows", "rows"), sum(len(X) for X, _ in raw.values()))
    features = {
        name: X.astype(np.uint8, copy=False) if small else checked_features(name, X, counter.advance)
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
    orders = _orders({name: len(X) for name, X in features.items()}, seed, subsets or {}, rows, validation)
    # Rows that are held out for validation are in the arrays of the training rows.
    arrays = {name: name if name in features else "train" for name in orders}
    own = {
        name: _stored_weights(name, weights[array], len(features[array]), orders[name])
        for name, array in arrays.items()
        if weights and array in weights
    }
    found = {name: (features[array], targets[array]) for name, array in arrays.items()}
    return Prepared(found, orders, task, n_classes, own, origin)


def _orders(
    sizes: Mapping[str, int],
    seed: int,
    subsets: Mapping[str, NDArray[np.intp]],
    rows: int | None,
    validation: float | None,
) -> dict[str, NDArray[np.intp]]:
    """Row numbers of each split in stored order: shuffled, some held out for validation, the training split cut."""
    orders = {name: _order(name, n, seed, subsets.get(name)) for name, n in sizes.items()}
    if validation is not None:
        refuse_second(orders)
        orders["train"], orders["validation"] = divided(orders["train"], validation)
    if rows is not None:
        if not 1 <= rows <= len(orders["train"]):
            raise UsageError(f"expected rows from 1 to the {len(orders['train'])} training rows there are, got {rows}")
        orders["train"] = orders["train"][:rows]
    return {name: orders[name] for name in SPLITS if name in orders}


def _order(name: str, n: int, seed: int, subset: NDArray[np.intp] | None) -> NDArray[np.intp]:
    return shuffle(name, n, seed) if subset is None else subset[shuffle(name, len(subset), seed)]


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


def fits_bytes(X: NDArray[Any]) -> bool:
    """Whether features are whole numbers from 0 to 255; floating-point features never become bytes."""
    return X.dtype.kind in "bui" and (
        X.dtype in (bool, np.uint8) or not X.size or bool(X.min() >= 0 and X.max() <= 255)
    )


def _centred(raw: Pairs, *, standardise: bool) -> tuple[Pairs, NDArray[np.float64] | None]:
    """Subtract an origin from features that rounding to float32 would make the same."""
    ranges = Ranges()
    ranges.update_all(raw["train"][0])
    origin = features_origin(ranges, standardise=standardise)
    return raw if origin is None else {name: (subtract(X, origin), y) for name, (X, y) in raw.items()}, origin


def features_origin(ranges: Ranges, *, standardise: bool) -> NDArray[np.float64] | None:
    """Return the origin of features without names; see :meth:`hfnumba.store.rounding.Ranges.origin`."""
    return ranges.origin(lambda j: f"feature {j} (counted from 0)", None if standardise else ADVICE)


def _targets(name: str, y: NDArray[Any]) -> NDArray[np.float32]:
    if y.ndim > 2:
        raise DataError(f"{name}: targets have shape {y.shape}, expected (rows,) or (rows, n_outputs)")
    columns = y.reshape(len(y), -1)
    if columns.shape[1] == 0:
        raise DataError(f"{name}: targets have shape {y.shape}, expected at least one output")
    if name == "train":
        refuse_rounded("target", columns, TARGETS_ADVICE, parsed=columns.dtype.kind == "f")
    with np.errstate(over="ignore"):
        values = columns.astype(np.float32, copy=False)
    refuse(name, "targets are not finite in float32 (NaN, infinite or too large)", ~np.isfinite(values), y)
    return values


def _stored_weights(name: str, given: ArrayLike, n_rows: int, order: NDArray[np.intp]) -> NDArray[np.float32]:
    own = checked_weights(name, given, n_rows)
    if not own[order].any():
        raise DataError(
            f"{name}: all weights of the {len(order)} rows that are taken are 0; at least one row needs a weight"
        )
    return own.astype(np.float32)
