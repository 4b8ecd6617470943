"""A small store for tests of runs and commands."""

import numpy as np

from hfnumba.ingest import write_store


def write_toy_store(path, seed=0):
    """Three classes of 8 features, 180 training and 60 test rows."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 8))
    y = np.arange(240) % 3
    X = (centres[y] + rng.normal(size=(240, 8))).astype(np.float32)
    write_store(path, {"train": (X[:180], y[:180]), "test": (X[180:], y[180:])}, n_partitions=4, seed=seed)
    return path
