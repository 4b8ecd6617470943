"""Recipes: TOML files that define how a data set becomes a store."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hfnumba.errors import DataError, did_you_mean, encoding_hint
from hfnumba.ingest.recipe_faults import recipe_fault
from hfnumba.ingest.recipe_tables import ArrayOptions, KaldiOptions, SpeechOptions, SyntheticOptions, TableOptions
from hfnumba.store.layout import MAX_CONTEXT, SPLITS
from hfnumba.store.manifest import Task

PlainName = Annotated[str, msgspec.Meta(pattern=r"^[^/\\.][^/\\]*$")]
Count = Annotated[int, msgspec.Meta(ge=1)]


Format = Literal[
    "idx",
    "npz",
    "digits",
    "kaldi",
    "timit",
    "festvox",
    "csv",
    "parquet",
    "hdf5",
    "libsvm",
    "npy",
    "zarr",
    "synthetic",
]

TABLES = {
    "kaldi": "kaldi",
    "timit": "speech",
    "festvox": "speech",
    "synthetic": "synthetic",
    "npy": "arrays",
    "zarr": "arrays",
} | dict.fromkeys(("csv", "parquet", "hdf5", "libsvm"), "table")
"""Name of the recipe's table for each format that has one."""

FOLDERS = TABLES.keys() - {"synthetic"}
"""Formats whose sources look for their files in the folder of ``--source``."""

CORPORA = frozenset({"kaldi", "timit", "festvox", "synthetic"})
"""Formats of speech: utterances of frames."""


class RecipeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of a data set.

    Attributes
    ----------
    name : str
        Name of the uncompressed file; mirrors and folders may have it as ``name.gz``.
    split, role : str or None
        Array in the file, for example ``"train"`` and ``"X"``; None if the file names its arrays itself.
    nbytes : int or None
        Size of the uncompressed file.
    sha256 : str or None
        SHA-256 of the uncompressed bytes.
    archive_md5 : str or None
        Published MD5 of ``name.gz``, where no SHA-256 of the content is published.
    """

    name: PlainName
    split: Literal["train", "validation", "test"] | None = None
    role: Literal["X", "y"] | None = None
    nbytes: Count | None = None
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    archive_md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None = None


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Definition of how a data set becomes a store.

    Attributes
    ----------
    name, title, licence, homepage : str
        Metadata recorded in the store.
    note : str
        Remark on the rows for users of the store.
    format : str
        Source that reads the files.
    task : {"classification", "regression"} or None
        Task; None for classification if the labels are words or whole numbers, otherwise regression (CSV, Parquet and
        libsvm: classification).
    n_classes : int or None
        Number of classes; None for the largest label plus one.
    scale, offset : float
        Affine map of the features in training, ``x * scale + offset``.
    standardise : bool
        Whether features are standardised by the mean and deviation of the training split (not for bytes).
    context : int
        Number of frames on each side that are spliced to a frame of speech.
    hold_out : float
        Fraction of the utterances (or rows) that becomes the test split if the source has none.
    kaldi, speech, table, arrays, synthetic : struct or None
        Options of these sources; see :mod:`hfnumba.ingest.recipe_tables`.
    mirrors : tuple of str
        URLs that end in a slash, to which ``name.gz`` is appended; tried in order.
    files : tuple of RecipeFile
        Files of the source, for the formats ``idx`` and ``npz``.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    title: str = ""
    licence: str = ""
    homepage: str = ""
    note: str = ""
    format: Format
    task: Task | None = None
    n_classes: Annotated[int, msgspec.Meta(ge=2)] | None = None
    scale: float = 1.0
    offset: float = 0.0
    standardise: bool = False
    context: Annotated[int, msgspec.Meta(ge=0, le=MAX_CONTEXT)] = 0
    hold_out: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    kaldi: KaldiOptions | None = None
    speech: SpeechOptions | None = None
    table: TableOptions | None = None
    arrays: ArrayOptions | None = None
    synthetic: SyntheticOptions | None = None
    mirrors: tuple[Annotated[str, msgspec.Meta(pattern="^https?://.*/$")], ...] = ()
    files: tuple[RecipeFile, ...] = ()

    def __post_init__(self) -> None:
        given = [(file.split, file.role) for file in self.files]
        if self.format == "idx":
            wanted = {(split, role) for split in SPLITS for role in ("X", "y")}
            splits = {split for split, _ in given}
            if (
                "train" not in splits
                or not set(given) <= wanted
                or sorted(map(str, given)) != sorted(str((split, role)) for split in splits for role in ("X", "y"))
            ):
                raise ValueError("format idx needs one file with role X and one with role y for each split")
        elif self.format == "npz" and len(given) != 1:
            raise ValueError(f"format npz needs exactly one file, got {len(given)}")
        elif self.format == "digits" and given:
            raise ValueError("format digits takes no files: they come with scikit-learn")
        elif self.format in TABLES and given:
            raise ValueError(f"format {self.format} takes no files; it reads what its own table names")
        for format_name, table in TABLES.items():
            if getattr(self, table) is not None and table != TABLES.get(self.format):
                raise ValueError(f"[{table}] is for format {format_name}, not for {self.format}")
        needed = TABLES.get(self.format)
        if needed in ("kaldi", "table", "arrays") and getattr(self, needed) is None:
            raise ValueError(f"format {self.format} needs a table [{needed}]")
        if self.table is not None:
            self.table.check(self.format)
        if self.context and self.format not in CORPORA:
            raise ValueError(f"context is for speech, not for format {self.format}")
        if self.mirrors and self.format != "idx":
            raise ValueError(f"format {self.format} takes no mirrors: only IDX files are downloaded")


def datasets_dir() -> Path:
    """Folder of the recipes of hfnumba: inside the package when it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "datasets", package.parent / "datasets"):
        if (folder / "mnist.toml").is_file():
            return folder
    raise DataError(f"the recipes of hfnumba are missing beside {package}; install it again")


def list_recipes() -> list[Recipe]:
    """Read the recipes that come with hfnumba, in the order of their names."""
    return [read_recipe(path) for path in sorted(datasets_dir().glob("*.toml"))]


def find_recipe(wanted: str | Path) -> Recipe:
    """Find a recipe by its name, read it from a ``.toml`` file, or make one for an ``.npz`` file.

    Raises
    ------
    DataError
        If there is no such recipe, or it is not valid; the message names the place in the file.
    """
    path = Path(wanted)
    if path.suffix == ".npz":
        if not path.is_file():
            there = (
                f"{path} is a folder, pipe or device, expected a file" if path.exists() else f"there is no file {path}"
            )
            raise DataError(there)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "arrays"
        # As text, and by the rule for names of files in recipes.
        name = re.sub(r"[/\\]|^\.", "_", os.fsencode(path.name).decode("utf-8", "replace"))
        return Recipe(name=stem, title=name, format="npz", files=(RecipeFile(name=name),))
    if path.suffix == ".toml":
        return read_recipe(path)
    names = [path_of.stem for path_of in sorted(datasets_dir().glob("*.toml"))]
    if str(wanted) not in names:
        raise DataError(
            f"there is no recipe {str(wanted)!r} (the path of one ends in .toml, or in .npz); "
            f"{did_you_mean(str(wanted), names)}"
        )
    return read_recipe(datasets_dir() / f"{wanted}.toml")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Recipe)
    except msgspec.ValidationError as error:
        raise DataError(f"the recipe {path} is not valid: {recipe_fault(error, Recipe)}") from error
    except FileNotFoundError:
        raise DataError(f"there is no recipe {path}") from None
    except OSError as error:
        raise DataError(f"the recipe {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the recipe {path} cannot be read: {encoding_hint(error.object)}") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the recipe {path} is not valid: {error}") from error
