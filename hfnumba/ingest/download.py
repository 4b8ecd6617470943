"""Files of a recipe: found in a folder, or downloaded from the first mirror that has them complete."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from hfnumba.errors import DataError, UsageError
from hfnumba.ingest.recipes import FOLDERS, Recipe, RecipeFile
from hfnumba.ingest.sources.paths import inside
from hfnumba.ingest.sources.raw import read_all, source_file
from hfnumba.progress import SILENT, Progress, Reporter

TIMEOUT_S = 30


def locate(recipe: Recipe, source: Path | None, reporter: Reporter = SILENT) -> dict[str, Path]:
    """Find each file of a recipe by its name; it is downloaded into the user's cache if no folder is given.

    Raises
    ------
    DataError
        If the folder lacks a file, or no mirror could be reached or had it complete.
    UsageError
        If a folder is given for a recipe without files.
    """
    if recipe.format in FOLDERS:
        return {"source": _folder(recipe, source)}
    if source is None:
        return {file.name: _fetch(recipe, file, reporter) for file in recipe.files}
    if not recipe.files:
        raise UsageError(f"the recipe {recipe.name} reads no files; leave --source out")
    if not source.is_dir():
        raise DataError(f"--source {source} is not a folder")
    return {file.name: _find(recipe, file, source) for file in recipe.files}


def _folder(recipe: Recipe, source: Path | None) -> Path:
    """Folder in which the source itself looks for its files."""
    if source is None:
        raise UsageError(f"the recipe {recipe.name} needs a folder of files; name it with --source DIR")
    if not source.is_dir():
        raise DataError(f"--source {source} is not a folder")
    return source.absolute()


def _find(recipe: Recipe, file: RecipeFile, folder: Path) -> Path:
    for name in (file.name, f"{file.name}.gz"):
        if (folder / name).is_file():
            return inside(folder, name)
    names = ", ".join(f.name for f in recipe.files)
    raise DataError(f"{folder} has no {file.name} (nor {file.name}.gz); the recipe {recipe.name} needs {names}")


def _fetch(recipe: Recipe, file: RecipeFile, reporter: Reporter) -> Path:
    """Return a file from the user's cache, or download it from the mirrors in their order."""
    import pooch  # noqa: PLC0415 - slow to import

    pooch.get_logger().setLevel("WARNING")
    folder = Path(pooch.os_cache("hfnumba")) / "datasets" / recipe.name
    if file.sha256 is None:
        # Another recipe of this name may have put another file there, and nothing would show it.
        folder /= hashlib.sha256("\n".join(recipe.mirrors).encode()).hexdigest()[:16]
    archive = f"{file.name}.gz"
    faults = []
    for mirror in recipe.mirrors:
        if not (folder / archive).exists():
            reporter.note(f"Downloading {archive} from {urlsplit(mirror).hostname}")
        bar = _Bar(reporter.progress("Downloading", "bytes"))
        try:
            fetched = pooch.retrieve(
                mirror + archive,
                known_hash=None,
                fname=archive,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S, progressbar=bar),
            )
            path = Path(fetched)
            if file.nbytes is not None:
                source_file(file, path, read_all(path, file.nbytes))
            return path
        except DataError as error:
            # The cached file is not the one of the recipe; it is deleted, so that the next mirror is asked.
            (folder / archive).unlink(missing_ok=True)
            faults.append(str(error))
        except (OSError, ValueError) as error:
            faults.append(f"{urlsplit(mirror).hostname}: {type(error).__name__}")
    why = "; ".join(faults) or "the recipe names no mirror"
    raise DataError(
        f"{file.name} could not be downloaded ({why}); without a network, fetch the files elsewhere "
        f"and name their folder with --source DIR"
    )


class _Bar:
    """Progress bar in the form that pooch expects."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done, self.total = progress, 0, 0

    def update(self, nbytes: int) -> None:
        """Add to the bytes done."""
        self._done += nbytes
        self._progress(self._done, self.total)

    def reset(self) -> None:
        """Start again from zero; pooch calls this at the end and then counts all bytes once more."""
        self._done = 0

    def close(self) -> None:
        """Do nothing."""
