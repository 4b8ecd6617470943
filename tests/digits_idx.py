"""The digits of scikit-learn as four gzipped IDX files, named like those of MNIST."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba.cli import main

DOCS = Path(__file__).resolve().parents[1] / "docs" / "data.md"
N_TEST = 360


def write_digits(folder):
    """The last rows are the test split; grey values from 0 to 16 become values up to 255."""
    sklearn = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn, which is not there")
    images, labels = sklearn.load_digits(return_X_y=True)
    arrays = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), labels.astype(np.uint8)
    for split, rows in (("train", slice(None, -N_TEST)), ("t10k", slice(-N_TEST, None))):
        for what, array in zip(("images-idx3", "labels-idx1"), arrays, strict=True):
            held = array[rows]
            header = bytes([0, 0, 8, held.ndim]) + np.array(held.shape, ">u4").tobytes()
            (folder / f"{split}-{what}-ubyte.gz").write_bytes(gzip.compress(header + held.tobytes()))


def build_digits(folder):
    """Build a store with the command and the recipe of the documentation for IDX files; return its path."""
    write_digits(folder)
    (recipe,) = re.findall(r"```toml\n([^`]*format = \"idx\"[^`]*)```", DOCS.read_text("utf-8"))
    (folder / "my-images.toml").write_text(recipe, "utf-8")
    out = folder / "my-images.zarr"
    command = ["data", "build", str(folder / "my-images.toml"), "--source", str(folder), "--out", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return out
