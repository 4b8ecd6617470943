"""Recordings in ``wav/`` and labels in ``lab/``, as Festvox voices and demonstrations of HTS have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.formats.lab import read_lab
from hfnumba.formats.speech import class_names, frame_labels, log_mel, recording_s
from hfnumba.ingest.recipe_tables import SpeechOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_names
from hfnumba.ingest.sources.paths import folder_record, hashing, inside, inside_folder
from hfnumba.ingest.sources.spellings import by_utterance, one_file_of_labels, one_recording, utterance
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile

DEBIAN = "usr/share/festival/voices/*/*/lab"


@dataclass(frozen=True)
class FestvoxCorpus:
    """Utterances of one speaker, by the names of their files."""

    root: Path
    files: Mapping[str, tuple[Path, Path]]
    names: Mapping[str, Sequence[str]]
    options: SpeechOptions
    numbers: dict[str, int]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the phones, or of their thirds."""
        return class_names(list(self.numbers), self.options.states)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Log-mel features and labels of an utterance."""
        recording, labels = utterance(self.files, name)
        X = log_mel(recording, self.options)
        spoken = read_lab(labels, recording_s(recording)).spoken
        unknown = set(spoken.phones) - self.numbers.keys()
        if unknown:
            raise DataError(f"{name} has phones that were not there when the build began: {', '.join(sorted(unknown))}")
        return X, frame_labels(name, len(X), spoken, self.numbers, self.options.states)

    def speaker(self, name: str) -> str | None:
        """The one speaker of the corpus, if features are normalised by speaker."""
        return "speaker" if self.options.normalise == "speaker" else None

    def sources(self, reporter: Reporter) -> tuple[SourceFile, ...]:
        """One record for all recordings, and one for all labels."""
        names = sorted(name for own in self.names.values() for name in own)
        paths = {kind: [self.files[name][i] for name in names] for i, kind in enumerate(("wav", "lab"))}
        advance = hashing(reporter, chain(*paths.values()))
        return tuple(
            folder_record(f"{kind}/*.{kind} ({len(names)} files)", self.root, files, advance)
            for kind, files in paths.items()
        )


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> FestvoxCorpus:
    """Pair recordings with labels; the seed holds utterances out for the test split."""
    options = recipe.speech or SpeechOptions()
    root = _root(paths["source"])
    wav, lab = root / "wav", root / "lab"
    recorded = one_recording(by_utterance(wav, wav.iterdir(), ".wav"), ".wav", reporter)
    labelled = one_file_of_labels(by_utterance(lab, lab.iterdir(), ".lab"), ".lab")
    for alone, missing in ((recorded.keys() - labelled, "labels"), (labelled.keys() - recorded, "recording")):
        if alone:
            reporter.note(f"{len(alone)} utterances have no {missing} and are left out; the first is {min(alone)}")
    names = sorted(recorded.keys() & labelled)
    if not names:
        raise DataError(f"{root} has no recording wav/NAME.wav with labels lab/NAME.lab")
    files = {name: (inside(root, recorded[name]), inside(root, labelled[name])) for name in names}
    phones = _phones(files.values(), reporter)
    train, test = hold_out_names(names, seed, recipe.hold_out)
    numbers = {phone: i for i, phone in enumerate(sorted(phones))}
    return FestvoxCorpus(root, files, {"train": train, "test": test}, options, numbers)


def _phones(files: Iterable[tuple[Path, Path]], reporter: Reporter) -> set[str]:
    """Read the labels of all recordings; a note says which dialects they are in."""
    phones: set[str] = set()
    dialects: Counter[tuple[str, bool]] = Counter()
    for recording, path in files:
        try:
            duration = recording_s(recording)
        except DataError:
            continue  # The survey reads all recordings, and lists those that it cannot.
        labels = read_lab(path, duration)
        dialects[labels.dialect, labels.of_states] += 1
        phones.update(labels.spoken.phones)
    for (dialect, of_states), n in sorted(dialects.items()):
        joined = "; they are states, which are joined to phones" if of_states else ""
        reporter.note(f"The labels of {n} recordings are read as {dialect}{joined}")
    return phones


def _root(folder: Path) -> Path:
    """Find the folder with ``wav`` and ``lab``: the given one, or the only voice of an unpacked Debian package."""
    found = [folder] if (folder / "lab").is_dir() else [path.parent for path in folder.glob(DEBIAN)]
    if len(found) != 1 or not (found[0] / "wav").is_dir():
        raise DataError(f"{folder} has no folders wav and lab (nor one voice below usr/share/festival/voices)")
    return inside_folder(folder, found[0])
