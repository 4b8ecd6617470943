import os
from pathlib import Path

import numpy as np
import pytest


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
