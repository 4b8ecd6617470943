"""Options of a recipe for each kind of source, one table per kind."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

RelativePath = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00]+$")]
"""Path below the folder of ``--source``; links are checked when it is opened."""

Paths = Annotated[tuple[RelativePath, ...], msgspec.Meta(min_length=1)]


class KaldiSplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Archives (``.ark``) or script files (``.scp``) of features and of alignments, joined by utterance.

    Attributes
    ----------
    features, alignments : tuple of str
        Their paths, in any order.
    """

    features: Paths
    alignments: Paths


class KaldiOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[kaldi]``.

    Attributes
    ----------
    train, validation, test : KaldiSplit
        Files of each split. Without ``test``, the seed holds training utterances out.
    pdf_map : str or None
        File with lines of a transition id and its class; None if the alignments are class numbers.
    missing : {"refuse", "skip"}
        Treatment of utterances that lack features or an alignment.
    """

    train: KaldiSplit
    validation: KaldiSplit | None = None
    test: KaldiSplit | None = None
    pdf_map: RelativePath | None = None
    missing: Literal["refuse", "skip"] = "refuse"


class SpeechOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[speech]``, for corpora of recordings with labelled times.

    Attributes
    ----------
    n_mels : int
        Number of logarithmic mel energies of a frame (25 ms, every 10 ms).
    sample_rate : int
        Required number of samples per second.
    normalise : {"speaker", "none"}
        Whether the frames of each speaker are normalised to mean 0 and deviation 1.
    states : {1, 3}
        Number of classes per phone: one, or one for each third of the phone.
    phones : {61, 48, 39}
        TIMIT only: size of the set of phones, folded after Lee and Hon (1989).
    sa : bool
        TIMIT only: whether the two sentences that all speakers read are included.
    """

    n_mels: Annotated[int, msgspec.Meta(ge=1, le=512)] = 40
    sample_rate: Annotated[int, msgspec.Meta(ge=1000, le=192_000)] = 16_000
    normalise: Literal["speaker", "none"] = "speaker"
    states: Literal[1, 3] = 1
    phones: Literal[61, 48, 39] = 61
    sa: bool = False


_FOR_FORMATS = (
    (("delimiter", "header", "comment", "decimal", "missing_values"), ("csv",), "CSV"),
    (("numeric", "categorical", "missing"), ("csv", "parquet"), "CSV and Parquet"),
    (("weight",), ("csv", "parquet", "hdf5"), "CSV, Parquet and HDF5"),
    (("features",), ("hdf5",), "HDF5"),
    (("zero_based", "n_features"), ("libsvm",), "libsvm"),
)
"""Options that some formats have, with these formats and their names."""


class TableOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[table]``, for CSV, Parquet, HDF5 and libsvm.

    Attributes
    ----------
    train, validation, test : tuple of str
        Files of each split, folders of them, or patterns such as ``parts/*.csv``. Without ``test``, the seed holds
        training rows out.
    label : str or tuple of str
        CSV, Parquet: column of the class, or one or several columns of the target for regression. HDF5: data set of the
        labels, default ``y``.
    weight : str or None
        CSV, Parquet: column of the weights of the rows. HDF5: data set of the weights.
    numeric : tuple of str or None
        CSV, Parquet: columns that are features as they are; None for all that have no other role.
    categorical : tuple of str
        CSV, Parquet: columns of which each distinct value becomes a feature of 0 or 1.
    missing : {"refuse", "mean"}
        CSV, Parquet: treatment of missing values: an error, or the mean of the training rows (a missing category is a
        category of its own).
    delimiter : str
        CSV: character between two columns.
    header : bool
        CSV: whether the first line has the names of the columns; if not, they are called ``f0``, ``f1`` and so on.
    comment : str
        CSV: beginning of lines that are left out, also within quotes.
    decimal : {".", ","}
        CSV: decimal separator.
    missing_values : tuple of str
        CSV: texts that stand for a missing value, besides empty ones. Default ``NA``, ``N/A``, ``NaN``, ``NULL`` and
        other spellings of these.
    features : str
        HDF5: data set of the features.
    zero_based : bool
        libsvm: whether features are numbered from 0 and not from 1.
    n_features : int or None
        libsvm: number of features of a row; None for the largest index that occurs.
    max_features : int
        Largest number of features of a row.
    """

    train: Paths
    validation: Paths | None = None
    test: Paths | None = None
    label: str | tuple[str, ...] | None = None
    weight: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    numeric: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    missing: Literal["refuse", "mean"] = "refuse"
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    header: bool | msgspec.UnsetType = msgspec.UNSET
    comment: Annotated[str, msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    decimal: Literal[".", ","] | msgspec.UnsetType = msgspec.UNSET
    missing_values: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    features: str = "X"
    zero_based: bool = False
    n_features: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_features: Annotated[int, msgspec.Meta(ge=1)] = 100_000

    def check(self, format_name: str) -> None:
        """Raise ``ValueError`` if options are given that are not for this format."""
        defaults = {field.name: field.default for field in msgspec.structs.fields(TableOptions)}
        for names, formats, words in _FOR_FORMATS:
            given = [name for name in names if getattr(self, name) != defaults[name]]
            if given and format_name not in formats:
                raise ValueError(f"{', '.join(given)} in [table] is for {words}, not for {format_name}")
        if format_name == "hdf5" and len(self.labels) > 1:
            raise ValueError("label in [table] names several data sets; HDF5 has one, with a column for each target")
        if self.decimal == self.delimiter:
            raise ValueError(f"decimal and delimiter are both {self.delimiter!r}; expected two characters")

    @property
    def files(self) -> dict[str, tuple[str, ...]]:
        """Files of each split that is given."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: paths for split, paths in given.items() if paths is not None}

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns."""
        if self.label is None:
            return ()
        return (self.label,) if isinstance(self.label, str) else self.label


class ArraySplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Arrays of features, and in the same order arrays of labels and optionally of weights, of equal lengths.

    Attributes
    ----------
    features : tuple of str
        Paths of arrays of shape (n_rows, …).
    labels : tuple of str
        Paths of arrays of class labels or targets, one for each array of features.
    weights : tuple of str or None
        Paths of arrays of weights of the rows, one for each array of features; None for rows without weights.
    """

    features: Paths
    labels: Paths
    weights: Paths | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.features) != len(self.weights):
            raise ValueError(f"expected as many weights as features, got {len(self.weights)} and {len(self.features)}")
        if len(self.features) != len(self.labels):
            raise ValueError(f"expected as many labels as features, got {len(self.labels)} and {len(self.features)}")


class ArrayOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[arrays]``, for ``.npy`` files and Zarr arrays.

    Attributes
    ----------
    train, validation, test : ArraySplit
        Arrays of each split. Without ``test``, the seed holds training rows out.
    max_features : int
        Largest number of features of a row.
    """

    train: ArraySplit
    validation: ArraySplit | None = None
    test: ArraySplit | None = None
    max_features: Annotated[int, msgspec.Meta(ge=1)] = 100_000

    @property
    def splits(self) -> dict[str, ArraySplit]:
        """Arrays of each split that is given."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: arrays for split, arrays in given.items() if arrays is not None}


class SyntheticOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[synthetic]``, for computed frames of speech whose classes a random network, the teacher, chooses.

    Attributes
    ----------
    train_rows, test_rows : int
        Number of frames of the split.
    n_features : int
        Number of features of a frame.
    n_classes : int
        Number of classes.
    seed : int
        Seed for features, teacher and classes.
    """

    train_rows: Annotated[int, msgspec.Meta(ge=1, le=10**11)] = 1_013_950
    test_rows: Annotated[int, msgspec.Meta(ge=0, le=10**11)] = 57_919
    n_features: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 40
    n_classes: Annotated[int, msgspec.Meta(ge=2, le=10**6)] = 1973
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
