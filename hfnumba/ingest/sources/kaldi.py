"""Features and alignments of Kaldi, joined by the names of the utterances.

Archives may be packed with gzip, as alignments are. A script file has lines of a key and ``file:offset``; the other
forms that Kaldi accepts (pipes, standard input, ranges) are refused. Nothing is ever executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.formats import ark
from hfnumba.formats.ark import Entry, read_ints, read_matrix
from hfnumba.formats.numbers import whole
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.remarks import listed
from hfnumba.ingest.shuffle import hold_out_names
from hfnumba.ingest.sources.paths import file_record, folder_record, hashing, inside
from hfnumba.ingest.sources.spool import gunzipped
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile

MAX_TRANSITION = 10**7


@dataclass(frozen=True)
class KaldiCorpus:
    """Utterances with features and alignments; their names are unique over all splits."""

    root: Path
    files: tuple[str, ...]
    names: Mapping[str, Sequence[str]]
    features: Mapping[str, Entry]
    alignments: Mapping[str, Entry]
    pdf_map: NDArray[np.int64] | None
    n_classes: int | None
    classes: tuple[str, ...] = ()

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Features and class numbers of an utterance, mapped if there is a pdf map."""
        X, y = read_matrix(self.features[name]), read_ints(self.alignments[name])
        if len(X) != len(y):
            raise DataError(f"{name} has {len(X)} frames of features and {len(y)} of alignment, expected as many")
        if self.pdf_map is None:
            return X, y
        known = (y >= 0) & (y < len(self.pdf_map))
        mapped = np.where(known, self.pdf_map[np.where(known, y, 0)], -1)
        if (mapped < 0).any():
            first = int(np.argmax(mapped < 0))
            raise DataError(
                f"{name}: {np.count_nonzero(mapped < 0)} of {len(y)} transitions are not in the pdf map; the first is "
                f"{y[first]} at frame {first}"
            )
        return X, mapped

    def speaker(self, name: str) -> str | None:
        """No speaker; returns None, because features of Kaldi are not normalised here."""
        return None

    def sources(self, reporter: Reporter) -> tuple[SourceFile, ...]:
        """One record for each file that the recipe names, and one for all archives that script files name."""
        named = [inside(self.root, name) for name in self.files]
        entries = (*self.features.values(), *self.alignments.values())
        archives = sorted({entry.path for entry in entries} - set(named))
        advance = hashing(reporter, [*named, *archives])
        records = [file_record(name, path, advance) for name, path in zip(self.files, named, strict=True)]
        if archives:
            records.append(folder_record(f"{len(archives)} archives", self.root, archives, advance))
        return tuple(records)


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> KaldiCorpus:
    """Join features and alignments; without a test split, the seed holds training utterances out."""
    options, root = recipe.kaldi, paths["source"]
    if options is None:
        raise DataError("format kaldi needs a table [kaldi]")
    given = {"train": options.train, "validation": options.validation, "test": options.test}
    features: dict[str, Entry] = {}
    alignments: dict[str, Entry] = {}
    names: dict[str, Sequence[str]] = {}
    files: list[str] = []
    for split, files_of in given.items():
        if files_of is None:
            continue
        own_features, own_alignments = _joined(root, files_of.features), _joined(root, files_of.alignments)
        names[split] = _common(split, own_features, own_alignments, options.missing == "skip", reporter)
        repeated = features.keys() & set(names[split])
        if repeated:
            raise DataError(f"{listed(sorted(repeated))} are in {split} and in another split too")
        features |= own_features
        alignments |= own_alignments
        files += [*files_of.features, *files_of.alignments]
    if options.test is None:
        names["train"], names["test"] = hold_out_names(names["train"], seed, recipe.hold_out)
    table = None
    if options.pdf_map is not None:
        table = read_pdf_map(inside(root, options.pdf_map))
        files.append(options.pdf_map)
    n_classes = recipe.n_classes or (None if table is None else max(2, int(table.max()) + 1))
    return KaldiCorpus(root, tuple(dict.fromkeys(files)), names, features, alignments, table, n_classes)


def read_index(root: Path, name: str) -> dict[str, Entry]:
    """Find the objects of an ``.scp`` or ``.ark`` file below a folder, by their keys.

    Raises
    ------
    DataError
        If the file is damaged, repeats a key, or refers to anything but plain files within the folder.
    """
    path = inside(root, name)
    found: dict[str, Entry] = {}
    entries = (
        _script(root, path)
        if path.suffix == ".scp"
        else ark.archive(path, gunzipped(path) if path.suffix == ".gz" else None)
    )
    for key, entry in entries:
        if key in found:
            raise DataError(f"{path} holds {key} twice")
        found[key] = entry
    if not found:
        raise DataError(f"{path} holds no objects")
    return found


def _script(root: Path, path: Path) -> Iterator[tuple[str, Entry]]:
    known: dict[str, Path] = {}
    with ark.opened(path) as file:
        number = 0
        while line := file.readline(ark.MAX_LINE):
            number += 1
            words = ark.decode(path, line).split(maxsplit=1)
            where = f"{path}, line {number}"
            if len(words) != 2 or (not line.endswith(b"\n") and len(line) == ark.MAX_LINE):
                raise DataError(f"{where}: expected a key and the place of an object")
            target = words[1].strip()
            if "|" in target or target == "-" or target.endswith("]"):
                raise DataError(
                    f"{where}: {target[:80]!r} is a pipe, standard input or a range, which are never followed; "
                    f"copy the features into an archive first (copy-feats)"
                )
            name, colon, offset = target.rpartition(":")
            if not colon or not offset.isascii() or not offset.isdigit():
                name, offset = target, "0"
            if name not in known:
                known[name] = inside(root, name)
            yield words[0], Entry(known[name], int(offset[:20]))


def read_pdf_map(path: Path) -> NDArray[np.int64]:
    """Read lines of a transition id and its class into a table; -1 for ids without a class."""
    pairs: dict[int, int] = {}
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                key, value = map(whole, line.split())
                if not (0 <= key <= MAX_TRANSITION and 0 <= value <= MAX_TRANSITION) or key in pairs:
                    raise DataError(f"{path}, line {number}: {key} {value} is out of range or repeated")
                pairs[key] = value
    except (ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected lines of a transition id and a class number ({error})") from error
    if not pairs:
        raise DataError(f"{path} is empty, expected lines of a transition id and a class number")
    table = np.full(max(pairs) + 1, -1, np.int64)
    table[list(pairs)] = list(pairs.values())
    return table


def _joined(root: Path, files: Iterable[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name in files:
        more = read_index(root, name)
        repeated = found.keys() & more.keys()
        if repeated:
            raise DataError(f"{root / name} repeats utterances of another file: {listed(sorted(repeated))}")
        found |= more
    return found


def _common(
    split: str, features: Mapping[str, Entry], alignments: Mapping[str, Entry], skip: bool, reporter: Reporter
) -> list[str]:
    """Names of the utterances that have both; others are reported, and refused unless they are to be skipped."""
    for missing, what in (
        (features.keys() - alignments.keys(), "alignment"),
        (alignments.keys() - features.keys(), "features"),
    ):
        if missing:
            text = f"{split}: {len(missing)} utterances have no {what}: {listed(sorted(missing))}"
            if not skip:
                raise DataError(f'{text}; to leave them out, set missing = "skip" in [kaldi]')
            reporter.note(f"{text}; they are left out")
    common = sorted(features.keys() & alignments.keys())
    if not common:
        raise DataError(f"{split}: no utterance has both features and an alignment")
    return common
