"""Rows of other stores in the form that the training rows of a run had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from hfnumba.errors import DataError, StoreError
from hfnumba.path_text import path_text, text_path
from hfnumba.run.records import StoreRecord
from hfnumba.store.columns import Arrangement, Column, canonical, feature_names, listed
from hfnumba.store.standardise import Standardisation

if TYPE_CHECKING:
    from hfnumba.network import Network
    from hfnumba.store import Split


def store_record(split: Split, network: Network, class_weights: tuple[float, ...] = ()) -> StoreRecord:
    """Record of the training data, from their split, for the network that is trained on them."""
    scaled = split.target_standardisation if network.takes_scaled_targets else None
    return StoreRecord(
        path=path_text(split.path),
        digest=split.digest,
        task=split.task,
        scale=split.scale,
        offset=split.offset,
        context=split.layout.context,
        mean=split.standardisation.mean if split.standardisation else (),
        deviation=split.standardisation.deviation if split.standardisation else (),
        origin=split.standardisation.origin if split.standardisation else (),
        class_weights=class_weights,
        columns=msgspec.UNSET if split.columns is None else split.columns,
        classes=split.classes,
        targets=split.targets,
        target_mean=scaled.mean if scaled else msgspec.UNSET,
        target_deviation=scaled.deviation if scaled else msgspec.UNSET,
    )


def with_names(data: StoreRecord, network: Network) -> StoreRecord:
    """Record of a run of an earlier version, completed from the manifest of its store if that is still the same."""
    from hfnumba.store.store import read_manifest  # noqa: PLC0415 - slow to import

    if data.classes is not msgspec.UNSET:
        return data
    try:
        store = read_manifest(text_path(data.path))
    except StoreError:
        return data
    return store_record(store["train"], network, data.class_weights) if store.digest == data.digest else data


def fitted(split: Split, data: StoreRecord, network: Network, note: Callable[[str], None]) -> Split:
    """Split whose rows load as the training rows of a run did, whatever its own store says about them.

    Features are put in the order of the run's columns, by name, and are standardised, spliced and scaled with the
    numbers of the run; labels become the run's numbers of classes, by name.

    Parameters
    ----------
    split : Split
        Split of any store.
    data : StoreRecord
        Record of the run.
    network : Network
        Network of the run.
    note : callable
        Receiver of a sentence for each decision that the user should know.

    Raises
    ------
    DataError
        If columns, categories, classes or widths do not fit those of the run; the message names them.
    """
    context, split = data.context, split.autoencoder() if data.task == "autoencode" else split
    features = _arranged_features(split, data, note)
    width = split.layout.n_features if features is None else len(features)
    unspliced = context > 0 and not split.layout.is_frames
    if split.task != data.task or width * (2 * context + 1) != network.n_features or unspliced:
        raise DataError(
            f"the run is for {data.task} with {_width_text(network.n_features, context)} and {network.n_outputs} "
            f"outputs, but split {split.name!r} of {split.path} is for {split.task} with {split.layout.n_features} "
            f"features{'' if split.layout.is_frames else ', no frames' if context else ''} and {split.n_outputs} "
            "outputs; give a store of the same kind"
        )
    arrangement = Arrangement(
        features,
        _arranged_targets(split, data, network),
        _class_numbers(split, data, network, note),
        None if split.n_classes is None else network.n_outputs,
    )
    _refuse_unknown(split, arrangement)
    standardisation = _standardisation(split, data, features)
    differing = [
        what
        for what, theirs, ours in (
            ("mean and deviation", split.standardisation, standardisation),
            ("context", split.layout.context, context),
            ("scale and offset", (split.scale, split.offset), (data.scale, data.offset)),
        )
        if theirs != ours
    ]
    if differing:
        note(f"features get {', '.join(differing)} of the run's training rows, not those of {split.path}")
    return replace(
        split,
        layout=msgspec.structs.replace(split.layout, context=context),
        n_classes=arrangement.n_classes,
        scale=data.scale,
        offset=data.offset,
        standardisation=standardisation,
        target_standardisation=data.target_standardisation,
        arrangement=None if arrangement.is_identity else arrangement,
    )


def _standardisation(split: Split, data: StoreRecord, order: Sequence[int] | None) -> Standardisation | None:
    """Standardisation of the run for rows as the split's store has them, from which it has subtracted its own origin.

    Raises
    ------
    DataError
        If the store rounds a feature from which the run subtracts an origin before.
    """
    ours, theirs = data.standardisation, split.standardisation
    if not (ours and ours.origin) and not (theirs and theirs.origin):
        return ours
    n = split.layout.n_features if order is None else len(order)
    places = np.arange(n) if order is None else np.array(order)
    there = np.where(places < 0, 0.0, np.array(theirs.origin)[places]) if theirs and theirs.origin else np.zeros(n)
    here = np.array(ours.origin) if ours and ours.origin else np.zeros(n)
    rounded = (here != 0) & (there == 0)
    if rounded.any():
        j = int(np.argmax(rounded))
        raise DataError(
            f"feature {j} (counted from 0) of {split.path} is rounded to float32 as it is, but the run subtracts "
            f"{here[j]:.15g} before rounding; build the store with standardise, or give the rows to predict"
        )
    if ours is None:
        return Standardisation(tuple((-there).tolist()), (1.0,) * n)
    # Where both subtract the same, the mean keeps its bits.
    return Standardisation(tuple((np.array(ours.mean) + (here - there)).tolist()), ours.deviation)


def _width_text(n_features: int, context: int) -> str:
    if not context:
        return f"{n_features} features"
    return f"frames of {n_features // (2 * context + 1)} features with {context} neighbours on each side"


def _arranged_features(split: Split, data: StoreRecord, note: Callable[[str], None]) -> tuple[int, ...] | None:
    """Stored feature at each place of the run's features; None for the same order."""
    ours, theirs = data.columns, split.columns
    if ours is msgspec.UNSET or theirs is None:
        if split.digest != data.digest:
            whose = "the run (or its store)" if ours is msgspec.UNSET else split.path
            note(
                f"{whose} is of an earlier version and has no names of columns, so those of {split.path} are taken in "
                "their order; make sure that it is the run's, or build and train again to have the names compared"
            )
        return None
    if not ours or not theirs:
        if ours or theirs:
            named = feature_names(ours or theirs)
            note(
                f"{'the run' if theirs else split.path} has no names of features; they are taken in the order "
                f"{listed(named)}"
            )
        return None
    refuse_other_columns(split.path, ours, [column.name for column in theirs])
    _refuse_other_kinds(split, ours, theirs)
    fills = {column.name: column.fill for column in ours}
    if filled := [column.name for column in theirs if column.fill != fills[column.name]]:
        note(
            f"missing values of {listed(filled)}, if there were any, have the means of {split.path} in their place, "
            "not those of the run"
        )
    place = {feature: i for i, feature in enumerate(feature_names(theirs))}
    order = tuple(place.get(feature, -1) for feature in feature_names(ours))
    return None if order == tuple(range(len(place))) else order


def refuse_other_columns(what: str, ours: Sequence[Column], theirs: Iterable[Any]) -> None:
    """Raise if columns do not have the names of a run's.

    Raises
    ------
    DataError
    """
    names, found = [column.name for column in ours], list(theirs)
    faults = []
    if missing := [name for name in names if name not in set(found)]:
        faults.append(f"it has no column {listed(missing)}")
    if extra := [name for name in found if name not in set(names)]:
        faults.append(f"the run was trained without its {'columns' if len(extra) > 1 else 'column'} {listed(extra)}")
    if faults:
        raise DataError(f"{what} does not fit the run: {'; '.join(faults)}; give it the run's columns")


def _refuse_other_kinds(split: Split, ours: Sequence[Column], theirs: Sequence[Column]) -> None:
    """Raise if a column of numbers in the run is one of categories in the split, or the other way round."""
    found = {column.name: column.categories is None for column in theirs}
    for column in ours:
        numeric = column.categories is None
        if found[column.name] != numeric:
            raise DataError(
                f"column {column.name!r} of {split.path} has {_kind(not numeric)}, in the run it has {_kind(numeric)}; "
                "build the store with the run's kinds of columns"
            )


def _kind(numeric: bool) -> str:
    return "numbers" if numeric else "categories"


def _arranged_targets(split: Split, data: StoreRecord, network: Network) -> tuple[int, ...] | None:
    """Stored column at each place of the run's targets; None for the same order, and for an autoencoder."""
    if split.autoencodes:
        return None
    if data.task != "regression" or not data.targets or not split.targets:
        if split.n_classes is None and split.n_outputs != network.n_outputs:
            raise DataError(
                f"the run has {network.n_outputs} targets a row, split {split.name!r} of {split.path} has "
                f"{split.n_outputs}; give a store with as many"
            )
        return None
    if set(data.targets) != set(split.targets):
        raise DataError(
            f"the run's targets are {listed(data.targets)}, those of {split.path} are {listed(split.targets)}; "
            "build it with the run's"
        )
    order = tuple(split.targets.index(name) for name in data.targets)
    return None if order == tuple(range(len(order))) else order


def _class_numbers(
    split: Split, data: StoreRecord, network: Network, note: Callable[[str], None]
) -> tuple[int, ...] | None:
    """Number in the run of each class of a split, -1 for a class that the run does not have; None for the same."""
    if split.n_classes is None:
        return None
    n, theirs = network.n_outputs, split.classes
    if data.classes is msgspec.UNSET:
        ours: tuple[str, ...] = theirs[:n]
        if split.digest != data.digest:
            note(
                f"the run has no record of its classes' names ({data.path} is another store now, or gone): classes are "
                "taken by their numbers; make sure that they are the same, or train again"
            )
    else:
        ours = data.classes
    if ours and not theirs and not all(map(_is_whole, ours)):
        note(f"{split.path} has no names of classes; its numbers are taken for 0 = {ours[0]} to {n - 1} = {ours[-1]}")
        ours = ()
    # Stores of earlier versions have names as they were spelled.
    spelling = canonical if len(set(map(canonical, ours))) == len(ours) else str
    place = {spelling(name): i for i, name in enumerate(ours or map(str, range(n)))}
    numbers = tuple(place.get(spelling(name), -1) for name in theirs or map(str, range(split.n_classes)))
    return None if numbers == tuple(range(n)) else numbers


def _refuse_unknown(split: Split, arrangement: Arrangement) -> None:
    """Raise if rows have a category or a class that the run does not have."""
    places, numbers = arrangement.features, arrangement.classes
    features = [] if places is None else sorted(set(range(split.layout.n_features)) - set(places))
    classes = [] if numbers is None else [k for k, number in enumerate(numbers) if number < 0]
    if not features and not classes:
        return
    n_rows, n_labels = np.zeros(len(features), np.int64), np.zeros(len(classes), np.int64)
    for j in range(split.n_partitions):
        if classes:
            n_labels += np.count_nonzero(split.load_labels(j)[0][:, None] == np.array(classes), axis=0)
        if features:
            n_rows += np.count_nonzero(split.load_stored(j)[0][:, features], axis=0)
    names = feature_names(split.columns or ())
    words = [str(names[i]) for i in features] + [f"class {_class_name(split, k)}" for k in classes]
    faults = [f"{word} ({count} rows)" for word, count in zip(words, [*n_rows, *n_labels], strict=True) if count]
    if faults:
        raise DataError(
            f"split {split.name!r} of {split.path} has {listed(faults)}, which the run does not have: none of its "
            "training rows had that; leave these rows out, or train on such rows"
        )


def _class_name(split: Split, k: int) -> str:
    return split.classes[k] if split.classes else str(k)


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
