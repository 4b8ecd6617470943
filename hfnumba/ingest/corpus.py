"""Speech corpora as utterances read one at a time: surveyed once, then written partition by partition."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, UsageError
from hfnumba.ingest.remarks import Faults, Seen
from hfnumba.ingest.shuffle import divided, refuse_second, shuffle
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import checked_features, checked_labels, label_dtype, unmasked
from hfnumba.store.layout import SPLITS, SplitLayout
from hfnumba.store.manifest import SourceFile
from hfnumba.store.rounding import Ranges
from hfnumba.store.standardise import Moments, Standardisation

Features = NDArray[np.float32]


class Corpus(Protocol):
    """Interface of a source of speech.

    Attributes
    ----------
    names : mapping of str to sequence of str
        Names of the utterances of each split.
    classes : sequence of str
        Names of the classes; empty where there are only numbers.
    n_classes : int or None
        Number of classes; None for the largest label plus one.
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

    def sources(self, reporter: Reporter) -> tuple[SourceFile, ...]:
        """Records of the files, which are read to hash them."""
        ...

    def speaker(self, name: str) -> str | None:
        """Speaker of an utterance, if features are to be normalised by speaker; otherwise None."""
        ...


class Utterance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, length, and digest (BLAKE2b, 128 bits) of features and labels."""

    name: str
    n_frames: int
    blake2b: str


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Utterances of each split in stored order, and mean and deviation of each speaker."""

    utterances: dict[str, tuple[Utterance, ...]]
    speakers: dict[str, Standardisation]
    n_features: int
    n_classes: int


@dataclass(frozen=True)
class Survey:
    """Catalogue of a corpus, mean and deviation of the training frames (after normalisation by speaker), class counts.

    ``class_counts`` has the number of frames of each class in each split.
    """

    catalogue: Catalogue
    standardisation: Standardisation
    class_counts: Mapping[str, Mapping[int, int]]


def survey_corpus(
    corpus: Corpus,
    *,
    rows: int | None = None,
    seed: int = 0,
    validation: float | None = None,
    reporter: Reporter = SILENT,
) -> Survey:
    """Read every utterance once (twice if normalised by speaker), check it, and shuffle the utterances.

    Parameters
    ----------
    corpus : Corpus
    rows : int, optional
        Largest number of training frames: the first whole utterances of the shuffled order are taken.
    seed : int
        Seed of the shuffle.
    validation : float, optional
        Share of the training utterances, the last of the shuffled order, that make the split ``validation``.
    reporter : Reporter
        Receiver of the progress of each pass over the utterances.

    Raises
    ------
    DataError
        If utterances cannot be read, are empty, are not finite, differ in width, or do not have one label per frame.
        The message has their number and the first of them.
    UsageError
        If the first utterance has more than ``rows`` frames.

    Notes
    -----
    One utterance at a time is in memory.
    """
    names = _orders(corpus, seed, validation)
    speakers = _speakers(corpus, names, reporter)
    moments: Moments | None = None
    found: dict[str, list[Utterance]] = {split: [] for split in names}
    faults, seen, ranges = Faults(), Seen(), Ranges()
    counter = Counter(reporter.progress("Checking utterances", "utterances"), sum(map(len, names.values())))
    for split, order in names.items():
        n_frames = 0
        for name in order:
            counter.advance()
            try:
                X, y = _read(corpus, speakers, split, name, ranges if split == "train" else None)
                moments = Moments(X.shape[1]) if moments is None else moments
                if X.shape[1] != (n := len(moments.mean)):
                    raise DataError(f"{split}: {name} has {X.shape[1]} features a frame, others have {n}")
            except DataError as error:
                faults.add(name, error)
                continue
            n_frames += len(X)
            if split == "train" and rows is not None and n_frames > rows:
                break
            if split == "train":
                moments.update(X)
            found[split].append(Utterance(name, len(X), digest := _digest(X, y)))
            seen.add(split, name, y, digest)
    faults.check(sum(map(len, names.values())))
    _refuse_rounded(ranges)
    seen.report(reporter)
    if not found["train"] or moments is None:
        raise UsageError(f"expected rows for at least the first utterance, got {rows}")
    catalogue = Catalogue(
        utterances={split: tuple(utterances) for split, utterances in found.items() if utterances},
        speakers=speakers,
        n_features=len(moments.mean),
        n_classes=corpus.n_classes or max(2, seen.largest + 1),
    )
    return Survey(catalogue, moments.standardisation(), seen.class_counts)


def _refuse_rounded(ranges: Ranges) -> None:
    ranges.origin(lambda j: f"feature {j} (counted from 0) of the training frames", "subtract an offset first")


@dataclass(frozen=True)
class CorpusContent:
    """Content of a store of frames; ``weights`` has the weights of each utterance's frames, by its name."""

    corpus: Corpus
    catalogue: Catalogue
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def partition(self, name: str, layout: SplitLayout, j: int) -> dict[str, NDArray[Any]]:
        """Read the utterances of partition ``j`` again.

        Raises
        ------
        DataError
            If an utterance has changed since the survey.
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
        rows = {"X": X, "y": y, "start": starts}
        if layout.weighted:
            own = [self.weights[utterance.name] for utterance in utterances[first : last + 1]]
            rows["weights"] = np.concatenate(own).astype(np.float32)
        return rows


@dataclass(frozen=True)
class ArrayCorpus:
    """Corpus of utterances in memory, by split, named by their numbers."""

    utterances: Mapping[str, Sequence[tuple[NDArray[Any], NDArray[Any]]]]
    n_classes: int | None = None
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Names such as ``train-0``."""
        return {
            split: [f"{split}-{i}" for i in range(len(utterances))] for split, utterances in self.utterances.items()
        }

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Features and labels of an utterance."""
        split, _, number = name.rpartition("-")
        X, y = self.utterances[split][int(number)]
        return unmasked(f"{name}, features", X), unmasked(f"{name}, labels", y)

    def sources(self, reporter: Reporter) -> tuple[SourceFile, ...]:
        """One record for each split, over all its arrays."""
        records = []
        for split, utterances in self.utterances.items():
            digest, nbytes = hashlib.sha256(), 0
            for pair in utterances:
                for array in map(np.ascontiguousarray, pair):
                    digest.update(array.tobytes())
                    nbytes += array.nbytes
            records.append(SourceFile(split, nbytes, digest.hexdigest()))
        return tuple(records)

    def speaker(self, name: str) -> str | None:
        """No speaker; returns None."""
        return None


def _orders(corpus: Corpus, seed: int, validation: float | None) -> dict[str, list[str]]:
    """Names of the utterances of each split, shuffled."""
    names = {split: _shuffled(corpus, split, seed) for split in SPLITS if split in corpus.names}
    if not names.get("train"):
        raise DataError("expected training utterances, got none; check the recipe and the source folder")
    if validation is not None:
        refuse_second(names)
        names["train"], names["validation"] = divided(names["train"], validation)
    return {split: names[split] for split in SPLITS if split in names}


def _shuffled(corpus: Corpus, split: str, seed: int) -> list[str]:
    names = sorted(corpus.names[split])
    return [names[i] for i in shuffle(split, len(names), seed)]


def _speakers(corpus: Corpus, names: Mapping[str, Sequence[str]], reporter: Reporter) -> dict[str, Standardisation]:
    """Mean and deviation of each speaker's frames."""
    of_speaker: dict[str, Moments] = {}
    spoken = [(split, name) for split, order in names.items() for name in order if corpus.speaker(name) is not None]
    if not spoken:
        return {}
    counter = Counter(reporter.progress("Measuring speakers", "utterances"), len(spoken))
    for split, name in spoken:
        # Utterances that cannot be read are reported when all are checked.
        with contextlib.suppress(DataError):
            X, _ = _read(corpus, {}, split, name)
            of_speaker.setdefault(str(corpus.speaker(name)), Moments(X.shape[1])).update(X)
        counter.advance()
    return {speaker: moments.standardisation() for speaker, moments in sorted(of_speaker.items())}


def _read(
    corpus: Corpus, speakers: Mapping[str, Standardisation], split: str, name: str, ranges: Ranges | None = None
) -> tuple[Features, NDArray[np.int64]]:
    """Read and check an utterance, normalised if its speaker was measured."""
    X, y = corpus.load(name)
    where = f"{split}: {name}"
    if X.ndim != 2 or not X.size or len(X) != len(y):
        raise DataError(f"{where} has features of shape {X.shape} and {len(y)} labels; expected as many, at least one")
    features, labels = checked_features(where, X), checked_labels(where, y, corpus.n_classes)
    if ranges is not None:
        ranges.update(X)
    speaker = speakers.get(corpus.speaker(name) or "")
    return (features if speaker is None else speaker.apply(features)), labels


def _digest(X: Features, y: NDArray[np.int64]) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(X).tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(y).tobytes())
    return digest.hexdigest()
