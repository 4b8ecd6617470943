"""Files of one utterance in several spellings or forms: one is taken by a rule, which a note states."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hfnumba.errors import DataError
from hfnumba.path_text import path_text
from hfnumba.progress import Reporter


def by_utterance(root: Path, paths: Iterable[Path], suffix: str, *, any_case: bool = False) -> dict[str, list[Path]]:
    """Group the files with a suffix, in capitals or not, by their paths below ``root`` without it.

    Converted copies ``X.WAV.wav`` belong to the same utterance as ``X.WAV``. With ``any_case``, so do paths that differ
    in capitals only; the key is then in capitals.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(paths):
        if path.suffix.lower() != suffix.lower():
            continue
        key = path.relative_to(root).with_suffix("")
        key = key.with_suffix("") if _is_copy(path) else key
        found[path_text(key.as_posix().upper() if any_case else key.as_posix())].append(path)
    return dict(found)


def one_recording(found: Mapping[str, Sequence[Path]], suffix: str, reporter: Reporter) -> dict[str, Path]:
    """Take the original before a converted copy, then the usual suffix, then the first path in the order of ASCII."""
    taken, several = {}, []
    for name, paths in found.items():
        taken[name], *others = sorted(paths, key=lambda path: (_is_copy(path), path.suffix != suffix, str(path)))
        if others:
            several.append(f"{taken[name]} is taken, {others[0].name} is not")
    if several:
        reporter.note(f"{len(several)} utterances have more than one recording; of the first, {several[0]}")
    return taken


def one_file_of_labels(found: Mapping[str, Sequence[Path]], suffix: str) -> dict[str, Path]:
    """Take the file with the usual suffix, or the first path.

    Raises
    ------
    DataError
        If the files of an utterance differ.
    """
    taken = {}
    for name, paths in found.items():
        taken[name], *others = sorted(paths, key=lambda path: (path.suffix != suffix, str(path)))
        for other in others:
            if not filecmp.cmp(taken[name], other, shallow=False):
                raise DataError(f"{taken[name]} and {other} are labels of one utterance, and differ; remove one")
    return taken


def utterance(files: Mapping[str, tuple[Path, Path]], name: str) -> tuple[Path, Path]:
    """Recording and labels of an utterance.

    Raises
    ------
    DataError
        If there is none of this name.
    """
    if name not in files:
        raise DataError(f"the utterance {name} has disappeared since the store was begun")
    return files[name]


def folders(parent: Path, name: str) -> list[Path]:
    """Folders of a name, in capitals or not; each once, where a file system does not distinguish them."""
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if path.name.upper() == name.upper() and path.is_dir():
            status = path.stat()
            found.setdefault((status.st_dev, status.st_ino), path)
    return list(found.values())


def _is_copy(path: Path) -> bool:
    """Whether the name is that of a recording converted to another format, such as ``X.WAV.wav``."""
    return Path(path.stem).suffix.lower() == path.suffix.lower() == ".wav"
