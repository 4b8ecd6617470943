"""Utterances of a store of frames, for tests."""

import numpy as np


def load_utterances(split, j):
    """Features and labels of each utterance of partition ``j``, as stored."""
    X, y = split.load_stored(j)
    cuts = np.flatnonzero(split.load_compact(j)["start"])[1:]
    return list(zip(np.split(X, cuts), np.split(y, cuts), strict=True))
