import os
from pathlib import Path

import numpy as np
import pytest

from hfnumba.data import write_store


@pytest.fixture
def arrays():
    """Images of 12 bytes in 3 classes; the first byte of a row is its number."""
    rng = np.random.default_rng(7)

    def split(n):
        X = rng.integers(0, 256, (n, 12), dtype=np.uint8)
        X[:, 0] = np.arange(n) % 256
        return X, rng.integers(0, 3, n)

    return {"train": split(100), "test": split(37)}


@pytest.fixture
def store(tmp_path, arrays):
    return write_store(tmp_path / "s.zarr", arrays, n_partitions=4, seed=3)


@pytest.fixture
def idx_dir(tmp_path, arrays):
    """A folder of IDX files and a recipe for it."""
    folder = tmp_path / "idx"
    folder.mkdir()
    lines = ['name = "tiny"', 'format = "idx"', "n_classes = 3"]
    for split, (X, y) in arrays.items():
        for role, array in (("X", X.reshape(-1, 3, 4)), ("y", y.astype(np.uint8))):
            name = f"{split}-{role}"
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / name).write_bytes(header + array.tobytes())
            lines += ["[[files]]", f'name = "{name}"', f'split = "{split}"', f'role = "{role}"']
    (folder / "tiny.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture
def mnist_dir():
    root = os.environ.get("HFNUMBA_DATA")
    if not root or not (Path(root) / "mnist").is_dir():
        pytest.skip("HFNUMBA_DATA names no folder with the real mnist/: real MNIST is not tested")
    return Path(root) / "mnist"


def contents(root):
    """Every file of a folder: relative path to bytes."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def read_tree():
    return contents
