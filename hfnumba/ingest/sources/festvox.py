"""Recordings in ``wav/`` and labels in ``lab/``, in the formats of Festvox voices and HTK.

A label file of Festvox has a header up to a line ``#``, then lines ``end_time 125 phone`` in seconds. One of HTK has
lines ``start end label`` in units of 100 ns; in a label with context, ``l-phone+r``, the phone is in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipe_tables import SpeechOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_names
from hfnumba.ingest.sources.numbers import real, whole
from hfnumba.ingest.sources.paths import folder_record, hashing, inside, inside_folder
from hfnumba.ingest.sources.speech import Segments, class_names, frame_labels, log_mel, read_text, segments
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile

DEBIAN = "usr/share/festival/voices/*/*/lab"
HTK_UNIT = 1e-7
IN_CONTEXT = re.compile(r"[^-+]*-([^-+]+)\+.*")


@dataclass(frozen=True)
class FestvoxCorpus:
    """Utterances of one speaker, by the names of their files."""

    root: Path
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
        X = log_mel(inside(self.root, f"wav/{name}.wav"), self.options)
        spoken = read_lab(inside(self.root, f"lab/{name}.lab"))
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
        paths = {kind: [inside(self.root, f"{kind}/{name}.{kind}") for name in names] for kind in ("wav", "lab")}
        advance = hashing(reporter, chain(*paths.values()))
        return tuple(
            folder_record(f"{kind}/*.{kind} ({len(names)} files)", self.root, files, advance)
            for kind, files in paths.items()
        )


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> FestvoxCorpus:
    """Pair recordings with labels; the seed holds utterances out for the test split."""
    options = recipe.speech or SpeechOptions()
    root = _root(paths["source"])
    recorded, labelled = ({path.stem for path in (root / kind).glob(f"*.{kind}")} for kind in ("wav", "lab"))
    for alone, missing in ((recorded - labelled, "labels"), (labelled - recorded, "recording")):
        if alone:
            reporter.note(f"{len(alone)} utterances have no {missing} and are left out; the first is {min(alone)}")
    names = sorted(recorded & labelled)
    if not names:
        raise DataError(f"{root} has no recording wav/NAME.wav with labels lab/NAME.lab")
    phones = {phone for name in names for phone in read_lab(inside(root, f"lab/{name}.lab")).phones}
    train, test = hold_out_names(names, seed, recipe.hold_out)
    numbers = {phone: i for i, phone in enumerate(sorted(phones))}
    return FestvoxCorpus(root, {"train": train, "test": test}, options, numbers)


def read_lab(path: Path) -> Segments:
    """Read a file of labels in either form."""
    lines = [line.split() for line in read_text(path)]
    if ["#"] in lines:
        lines = lines[lines.index(["#"]) + 1 :]
    rows = [line for line in lines if line]
    if any(len(row) < 3 for row in rows):
        raise DataError(f"{path} is not a file of labels: expected lines `end 125 phone` or `start end label`")
    try:
        if rows and all(row[0].isdigit() and row[1].isdigit() for row in rows):
            return _htk(path, rows)
        return segments(path, [real(row[0]) for row in rows], [row[2] for row in rows])
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a file of labels: {error}") from error


def _htk(path: Path, rows: list[list[str]]) -> Segments:
    if any(row[0] != before[1] for row, before in zip(rows[1:], rows, strict=False)):
        raise DataError(f"{path}: a label does not begin where the one before it ends")
    phones = [match[1] if (match := IN_CONTEXT.fullmatch(row[2])) else row[2] for row in rows]
    return segments(path, [whole(row[1]) * HTK_UNIT for row in rows], phones, whole(rows[0][0]) * HTK_UNIT)


def _root(folder: Path) -> Path:
    """Find the folder with ``wav`` and ``lab``: the given one, or the only voice of an unpacked Debian package."""
    found = [folder] if (folder / "lab").is_dir() else [path.parent for path in folder.glob(DEBIAN)]
    if len(found) != 1 or not (found[0] / "wav").is_dir():
        raise DataError(f"{folder} has no folders wav and lab (nor one voice below usr/share/festival/voices)")
    return inside_folder(folder, found[0])
