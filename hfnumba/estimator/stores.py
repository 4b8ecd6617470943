"""Fitting on a store, which has its own targets, weights and scale."""

from __future__ import annotations

from contextlib import ExitStack
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine import DaskObjective, RoundObjective, SplitObjective
from hfnumba.errors import UsageError
from hfnumba.estimator.scaling import Scaling
from hfnumba.estimator.settings import thread_count
from hfnumba.store import Split, open_store
from hfnumba.store.class_weights import balanced
from hfnumba.store.store import Store


def is_store(X: Any) -> bool:
    """Whether this is a store or the path of one."""
    return isinstance(X, str | PathLike | Store)


def fit(model: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """Train an estimator on the split ``train`` of a store, and stop early by its split ``validation``.

    Raises
    ------
    UsageError
        If labels or weights are given beside the store, or the store has another task.
    """
    if y is not None or sample_weight is not None:
        raise UsageError("expected a store alone, which has its own targets and weights, got y or sample_weight too")
    store = X if isinstance(X, Store) else open_store(X)
    split = store["train"]
    if split.layout.is_frames:
        raise UsageError(f"expected a store of rows, got frames in {store.path}; train on them by `hfnumba train`")
    n_outputs, loss = model._begin_with(split)
    if not model.warm_start:
        model._forget()
    model._set_features(
        split.n_features, [str(feature) for column in split.columns or () for feature in column.features]
    )
    model._begin(split.n_features, n_outputs, loss)
    model._features, model._targets = _scaling(split), None
    targets = getattr(split, "target_standardisation", None)
    if targets is not None:
        model._targets = Scaling(np.array(targets.mean), np.array(targets.deviation))
    held_out = _validation(model, store)
    with ExitStack() as stack:
        training = stack.enter_context(_objective(model, split, model.l2, _class_weights(model, split)))
        watched = None
        if held_out is not None:
            objective = stack.enter_context(_objective(model, held_out, 0.0, None))
            watched = model._watch(objective, *_targets_and_weights(held_out))
        return model._train(training, watched, {"X": X, "y": None, "metadata": {}})


def _objective(model: Any, split: Split, l2: float, class_weights: Any) -> RoundObjective:
    if model.client is None:
        threads = thread_count(model.n_threads, model.network_, split.n_rows)
        return SplitObjective(model.network_, split, l2=l2, n_threads=threads, class_weights=class_weights)
    return DaskObjective(model.network_, split, model.client, l2=l2, class_weights=class_weights)


def _scaling(split: Split) -> Scaling | None:
    """Return what turns features of the source into those of the network: standardised, then scaled."""
    n = split.n_features
    mean, deviation = np.zeros(n), np.ones(n)
    found = split.standardisation
    if found is not None:
        mean = np.array(found.mean) + (np.array(found.origin) if found.origin else 0.0)
        deviation = np.array(found.deviation)
    if split.scale == 0:
        raise UsageError("expected a store with a scale other than 0, which makes all features the same; build it anew")
    if found is None and (split.scale, split.offset) == (1.0, 0.0):
        return None
    return Scaling(mean - split.offset * deviation / split.scale, deviation / split.scale)


def _validation(model: Any, store: Store) -> Split | None:
    wanted = model.early_stopping is True or (model.early_stopping == "auto" and model._stops_early)
    if wanted and "validation" in store.splits:
        return store["validation"]
    if model.early_stopping is True:
        raise UsageError(
            f"expected a split validation in {store.path} to stop early by, it has {', '.join(store.splits)}; build it "
            "with one, or set early_stopping to False"
        )
    return None


def _class_weights(model: Any, split: Split) -> Any:
    weights = getattr(model, "class_weight", None)
    if weights is None:
        return None
    if weights == "balanced":
        return balanced(split)
    unknown = [label for label in weights if label not in model.classes_]
    if unknown:
        raise UsageError(
            f"expected classes of the store in class_weight, got {unknown}; it has {model.classes_.tolist()}"
        )
    return [float(weights.get(label, 1.0)) for label in model.classes_.tolist()]


def _targets_and_weights(split: Split) -> tuple[NDArray[Any], NDArray[Any] | None]:
    pairs = [split.load_labels(j) for j in range(split.n_partitions)]
    weights = [own for _, own in pairs if own is not None]
    return np.concatenate([y for y, _ in pairs]), np.concatenate(weights) if weights else None
