"""The 8 x 8 digits that come with scikit-learn: handwritten digits without a download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out
from hfnumba.ingest.sources.raw import RawData
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read 1797 rows of 64 grey values from 0 to 16; the seed draws 360 of them for the test split."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DataError(
            "the digits come with scikit-learn, which is not installed; run `pip install 'hfnumba[sklearn]'`"
        ) from error
    images, labels = load_digits(return_X_y=True)
    X, y = images.astype(np.uint8), labels.astype(np.uint8)
    data = X.tobytes() + y.tobytes()
    record = SourceFile("sklearn.datasets.load_digits", len(data), hashlib.sha256(data).hexdigest())
    return RawData(hold_out(X, y, seed), (record,))
