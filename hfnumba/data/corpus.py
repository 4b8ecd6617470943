"""Speech as utterances that are read one at a time: taken stock of once, then written a partition at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.data.layout import SPLITS, SplitLayout
from hfnumba.data.manifest import SourceFile
from hfnumba.data.prepare import checked_features, checked_labels, label_dtype, shuffle
from hfnumba.data.standardise import Moments, Standardisation
from hfnumba.errors import DataError, UsageError

Say = Callable[[str], None]
Features = NDArray[np.float32]
N_REPORTS, MIN_REPORTED = 10, 100


class Corpus(Protocol):
    """What a source of speech offers.

    Attributes
    ----------
    names : mapping of str to sequence of str
        Names of the utterances of each split.
    classes : sequence of str
        Names of the classes; empty where there are only numbers.
    n_classes : int or None
        None: the largest label plus one.
    """

    @property
    def names(self) -> Mapping[str, Sequence[str]]: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def n_classes(self) -> int | None: ...  # noqa: D102

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Features (frames, n_features) and labels (frames,) of an utterance."""
        ...

    def sources(self) -> tuple[SourceFile, ...]:
        """Records of the files, read for it."""
        ...

    def speaker(self, name: str) -> str | None:
        """Who speaks, if the features are to be normalised over all frames of each speaker; or None."""
        ...


class Utterance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, length, and digest (BLAKE2b, 128 bits) of features and labels."""

    name: str
    n_frames: int
    blake2b: str


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was found in a corpus: the utterances of each split in the order they are stored, and the speakers."""

    utterances: dict[str, tuple[Utterance, ...]]
    speakers: dict[str, Standardisation]
    n_features: int
    n_classes: int


@dataclass(frozen=True)
class Stock:
    """A catalogue, and mean and deviation of the training frames (after normalisation by speaker)."""

    catalogue: Catalogue
    standardisation: Standardisation


def take_stock(corpus: Corpus, *, rows: int | None = None, seed: int = 0, say: Say = lambda _: None) -> Stock:
    """Read every utterance once (twice if normalised by speaker), check it, and shuffle the utterances.

    Parameters
    ----------
    corpus : Corpus
    rows : int, optional
        Keep at most this many training frames: the first whole utterances of the shuffled order.
    seed : int
        Key of the shuffle.
    say : callable, optional
        Called with a line of progress now and then.

    Raises
    ------
    DataError
        If an utterance is empty, not finite, unequal in width to the others, or has not one label a frame.
    UsageError
        If ``rows`` is less than the first utterance has.

    Notes
    -----
    One utterance at a time is in memory.
    """
    names = {split: _shuffled(corpus, split, seed) for split in SPLITS if split in corpus.names}
    if not names.get("train"):
        raise DataError("there are no training utterances")
    speakers = _speakers(corpus, names, say)
    moments: Moments | None = None
    found: dict[str, list[Utterance]] = {split: [] for split in names}
    largest, steps = 0, _Steps(say, "Checked", sum(map(len, names.values())))
    for split, order in names.items():
        n_frames = 0
        for name in order:
            X, y = _read(corpus, speakers, split, name)
            moments = Moments(X.shape[1]) if moments is None else moments
            if X.shape[1] != len(moments.mean):
                raise DataError(f"{split}: {name} has {X.shape[1]} features a frame, others have {len(moments.mean)}")
            n_frames += len(X)
            if split == "train" and rows is not None and n_frames > rows:
                break
            if split == "train":
                moments.update(X)
            largest = max(largest, int(y.max()))
            found[split].append(Utterance(name, len(X), _digest(X, y)))
            steps.step()
    if not found["train"] or moments is None:
        raise UsageError(f"expected rows for at least the first utterance, got {rows}")
    catalogue = Catalogue(
        utterances={split: tuple(utterances) for split, utterances in found.items() if utterances},
        speakers=speakers,
        n_features=len(moments.mean),
        n_classes=corpus.n_classes or max(largest + 1, 2),
    )
    return Stock(catalogue, moments.standardisation())


@dataclass(frozen=True)
class CorpusContent:
    """What a store of frames is filled with."""

    corpus: Corpus
    catalogue: Catalogue

    def part(self, name: str, layout: SplitLayout, j: int) -> dict[str, NDArray[Any]]:
        """Read the utterances of partition ``j`` again.

        Raises
        ------
        DataError
            If an utterance is not what it was when stock was taken.
        """
        utterances = self.catalogue.utterances[name]
        ends = np.array(list(accumulate(utterance.n_frames for utterance in utterances)))
        start, stop = layout.bounds(j)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        X = np.empty((stop - start, layout.n_features), np.float32)
        y = np.empty(stop - start, label_dtype(self.catalogue.n_classes))
        starts = np.zeros(stop - start, np.uint8)
        row = 0
        for utterance in utterances[first : last + 1]:
            features, labels = _read(self.corpus, self.catalogue.speakers, name, utterance.name)
            if len(features) != utterance.n_frames or _digest(features, labels) != utterance.blake2b:
                raise DataError(
                    f"{name}: {utterance.name} has changed since the store was begun; delete the store and build again"
                )
            starts[row] = 1
            X[row : row + len(features)], y[row : row + len(features)] = features, labels
            row += len(features)
        return {"X": X, "y": y, "start": starts}


@dataclass(frozen=True)
class ArrayCorpus:
    """Utterances in memory, by split; they are named by their numbers."""

    utterances: Mapping[str, Sequence[tuple[NDArray[Any], NDArray[Any]]]]
    n_classes: int | None = None
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """``train-0`` and so on."""
        return {split: [f"{split}-{i}" for i in range(len(held))] for split, held in self.utterances.items()}

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the arrays."""
        split, _, number = name.rpartition("-")
        X, y = self.utterances[split][int(number)]
        return np.asarray(X), np.asarray(y)

    def sources(self) -> tuple[SourceFile, ...]:
        """One record a split, over all its arrays."""
        records = []
        for split, held in self.utterances.items():
            digest, nbytes = hashlib.sha256(), 0
            for pair in held:
                for array in map(np.ascontiguousarray, pair):
                    digest.update(array.tobytes())
                    nbytes += array.nbytes
            records.append(SourceFile(split, nbytes, digest.hexdigest()))
        return tuple(records)

    def speaker(self, name: str) -> str | None:
        """Nobody in particular."""
        return None


def _shuffled(corpus: Corpus, split: str, seed: int) -> list[str]:
    names = sorted(corpus.names[split])
    return [names[i] for i in shuffle(split, len(names), seed)]


def _speakers(corpus: Corpus, names: Mapping[str, Sequence[str]], say: Say) -> dict[str, Standardisation]:
    """Mean and deviation of each speaker's frames."""
    gathered: dict[str, Moments] = {}
    steps = _Steps(say, "Measured for the normalisation by speaker", sum(map(len, names.values())))
    for split, order in names.items():
        for name in order:
            speaker = corpus.speaker(name)
            if speaker is None:
                continue
            X, _ = _read(corpus, {}, split, name)
            gathered.setdefault(speaker, Moments(X.shape[1])).update(X)
            steps.step()
    return {speaker: moments.standardisation() for speaker, moments in sorted(gathered.items())}


def _read(
    corpus: Corpus, speakers: Mapping[str, Standardisation], split: str, name: str
) -> tuple[Features, NDArray[np.int64]]:
    """Read and check an utterance, normalised if its speaker is known."""
    X, y = corpus.load(name)
    where = f"{split}: {name}"
    if X.ndim != 2 or not X.size or len(X) != len(y):
        raise DataError(f"{where} has features of shape {X.shape} and {len(y)} labels; expected as many, at least one")
    features, labels = checked_features(where, X), checked_labels(where, y, corpus.n_classes)
    speaker = speakers.get(corpus.speaker(name) or "")
    return (features if speaker is None else speaker.apply(features)), labels


def _digest(X: Features, y: NDArray[np.int64]) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(X).tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(y).tobytes())
    return digest.hexdigest()


class _Steps:
    """Tells now and then how far a pass over the utterances has come."""

    def __init__(self, say: Say, what: str, total: int) -> None:
        self.say, self.what, self.total, self.done = say, what, total, 0
        self.began = time.monotonic()

    def step(self) -> None:
        self.done += 1
        if self.total < MIN_REPORTED or self.done % max(1, self.total // N_REPORTS):
            return
        rate = self.done / max(time.monotonic() - self.began, 1e-9)
        left = (self.total - self.done) / rate
        self.say(f"{self.what}: {self.done} of {self.total} utterances, {rate:.0f} a second, {left:.0f} s left")
