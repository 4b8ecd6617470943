"""TIMIT as the Linguistic Data Consortium distributes it (LDC93S1): ``TRAIN/DR1/FCJF0/SA1.WAV`` and ``.PHN``.

The test split is the core test set, 24 speakers that the documentation of the corpus names. Phones are folded from 61
to 48 and 39 after K.-F. Lee and H.-W. Hon (1989), "Speaker-independent phone recognition using hidden Markov models",
table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.formats.numbers import whole
from hfnumba.formats.speech import Segments, class_names, frame_labels, log_mel, read_text, segments
from hfnumba.ingest.recipe_tables import SpeechOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.paths import folder_record, hashing, inside, inside_folder
from hfnumba.ingest.sources.spellings import by_utterance, folders, one_file_of_labels, one_recording, utterance
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile

_SPEAKERS = """
MDAB0 MWBT0 FELC0 MTAS1 MWEW0 FPAS0 MJMP0 MLNT0 FPKT0 MLLL0 MTLS0 FJLM0
MBPM0 MKLT0 FNLP0 MCMJ0 MJDH0 FMGD0 MGRT0 MNJM0 FDHC0 MJLN0 MPAM0 FMLD0
"""
_PHONES = """
aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl l m n
ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh
"""
CORE_TEST = frozenset(_SPEAKERS.split())
PHONES = tuple(_PHONES.split())
# Lee and Hon omit the glottal stop q; here it becomes silence, because every frame needs a class.
TO_48 = {"ax-h": "ax", "axr": "er", "em": "m", "eng": "ng", "hv": "hh", "nx": "n", "ux": "uw"}
TO_48 |= dict.fromkeys(("bcl", "dcl", "gcl"), "vcl") | dict.fromkeys(("kcl", "pcl", "tcl"), "cl")
TO_48 |= dict.fromkeys(("h#", "pau", "q"), "sil")
TO_39 = {"ao": "aa", "ax": "ah", "el": "l", "en": "n", "ix": "ih", "zh": "sh"}
TO_39 |= dict.fromkeys(("vcl", "cl", "epi"), "sil")


@dataclass(frozen=True)
class TimitCorpus:
    """Utterances by their paths without suffix, such as ``TRAIN/DR1/FCJF0/SX127``."""

    root: Path
    files: Mapping[str, tuple[Path, Path]]
    names: Mapping[str, Sequence[str]]
    options: SpeechOptions
    numbers: dict[str, int]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the phones, or of their thirds."""
        return class_names(list(dict.fromkeys(fold(phone, self.options.phones) for phone in PHONES)), self._states)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def _states(self) -> int:
        return self.options.states

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Log-mel features and labels of an utterance."""
        recording, labels = utterance(self.files, name)
        X = log_mel(recording, self.options)
        return X, frame_labels(name, len(X), read_phn(labels, self.options.sample_rate), self.numbers, self._states)

    def speaker(self, name: str) -> str | None:
        """Speaker by the name of the folder, if features are normalised by speaker."""
        return name.split("/")[2] if self.options.normalise == "speaker" else None

    def sources(self, reporter: Reporter) -> tuple[SourceFile, ...]:
        """One record for all recordings, and one for all labels."""
        pairs = [self.files[name] for own in self.names.values() for name in own]
        advance = hashing(reporter, chain(*pairs))
        return tuple(
            folder_record(f"*.{kind} ({len(pairs)} files)", self.root, [pair[i] for pair in pairs], advance)
            for i, kind in enumerate(("WAV", "PHN"))
        )


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> TimitCorpus:
    """Find the utterances of the training and the core test speakers; the seed is not used."""
    options = recipe.speech or SpeechOptions()
    root = _root(paths["source"])
    files: dict[str, tuple[Path, Path]] = {}
    names: dict[str, list[str]] = {"train": [], "test": []}
    for split, folder in (("train", "TRAIN"), ("test", "TEST")):
        for name, pair in _utterances(root, folder, reporter).items():
            _, _, speaker, sentence = name.split("/")
            if (split == "train" or speaker in CORE_TEST) and (options.sa or not sentence.startswith("SA")):
                names[split].append(name)
                files[name] = pair
        if not names[split]:
            raise DataError(f"{root} has no utterances of the {split} speakers below {folder}/DR*/SPEAKER")
    speakers = {name.split("/")[2] for name in names["test"]}
    if CORE_TEST - speakers:
        reporter.note(f"The core test set lacks {len(CORE_TEST - speakers)} of its 24 speakers here")
    order = list(dict.fromkeys(fold(phone, options.phones) for phone in PHONES))
    numbers = {phone: order.index(fold(phone, options.phones)) for phone in PHONES}
    return TimitCorpus(root, files, names, options, numbers)


def fold(phone: str, n_phones: int) -> str:
    """Map one of the 61 phones to its place in the set of 61, 48 or 39."""
    if n_phones == 61:
        return phone
    folded = TO_48.get(phone, phone)
    return folded if n_phones == 48 else TO_39.get(folded, folded)


def read_phn(path: Path, sample_rate: int) -> Segments:
    """Read lines of the first sample, the sample after the last, and the phone."""
    ends, phones, start = [], [], None
    for number, line in enumerate(read_text(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            first, last = map(whole, words[:-1])
        except ValueError:
            raise DataError(f"{path}, line {number}: expected first sample, last sample and phone") from None
        if words[-1] not in PHONES:
            raise DataError(f"{path}, line {number}: {words[-1]!r} is not one of the 61 phones of TIMIT")
        start = first / sample_rate if start is None else start
        ends.append(last / sample_rate)
        phones.append(words[-1])
    if not ends:
        raise DataError(f"{path} holds no labels")
    try:
        return segments(ends, phones, start or 0.0)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _utterances(root: Path, folder: str, reporter: Reporter) -> dict[str, tuple[Path, Path]]:
    """Find the utterances below ``TRAIN`` or ``TEST``, ordered by name; capitals do not matter in names."""
    paths = [path for child in folders(root, folder) for path in child.glob("*/*/*")]
    recordings = one_recording(by_utterance(root, paths, ".WAV", any_case=True), ".WAV", reporter)
    labels = one_file_of_labels(by_utterance(root, paths, ".PHN", any_case=True), ".PHN")
    for name, path in recordings.items():
        if name not in labels:
            raise DataError(f"{path} has no .PHN file of labels beside it")
    return {name: (inside(root, recordings[name]), inside(root, labels[name])) for name in sorted(recordings)}


def _root(folder: Path) -> Path:
    """Find the folder with TRAIN and TEST: the given one, or TIMIT in it."""
    found = [path for path in (folder, *folders(folder, "TIMIT")) if folders(path, "TRAIN") and folders(path, "TEST")]
    if not found:
        raise DataError(f"{folder} has no folders TRAIN and TEST, as the distribution of the LDC has")
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} both have folders TRAIN and TEST; name one of them with --source")
    return inside_folder(folder, found[0])
