"""Frames of utterances: splicing of context, and partitions of whole utterances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.linux import empty


def splice(X: NDArray[np.float32], start: NDArray[np.uint8], context: int) -> NDArray[np.float32]:
    """Splice each frame with its neighbours; the first and last frame of an utterance are repeated.

    Parameters
    ----------
    X : ndarray, shape (rows, n_features)
    start : ndarray of uint8, shape (rows,)
        1 where an utterance starts; the first row must be 1.
    context : int
        Number of neighbours on each side.

    Returns
    -------
    ndarray, shape (rows, (2 * context + 1) * n_features)
        Spliced frames, from the earliest neighbour to the latest; ``X`` itself without context.

    Notes
    -----
    Copies numbers without arithmetic, so the bits are the same as when splicing before storing.
    """
    if context == 0:
        return X
    n, n_features = X.shape
    firsts = np.flatnonzero(start)
    lengths = np.diff(np.append(firsts, n))
    first, last = np.repeat(firsts, lengths), np.repeat(firsts + lengths - 1, lengths)
    spliced: NDArray[Any] = empty((n, 2 * context + 1, n_features), X.dtype)
    rows = np.arange(n)
    for k in range(2 * context + 1):
        np.take(X, np.clip(rows + (k - context), first, last), axis=0, out=spliced[:, k], mode="clip")
    return spliced.reshape(n, -1)


def splice_blocks(blocks: Iterable[NDArray[np.float32]], context: int) -> Iterator[NDArray[np.float32]]:
    """Splice the frames of one utterance like :func:`splice`, block by block.

    Parameters
    ----------
    blocks : iterable of ndarray, shape (rows, n_features)
        Consecutive frames.
    context : int
        Number of neighbours on each side; without any, blocks are yielded as they are.
    """
    if context == 0:
        yield from blocks
        return
    frames: NDArray[Any] | None = None
    for block in blocks:
        if len(block):
            frames = np.concatenate([np.repeat(block[:1], context, axis=0) if frames is None else frames, block])
            yield _windows(frames, context)
            frames = frames[-2 * context :]
    if frames is not None:
        yield _windows(np.concatenate([frames, np.repeat(frames[-1:], context, axis=0)]), context)


def _windows(frames: NDArray[np.float32], context: int) -> NDArray[np.float32]:
    """Splice each frame that has all its neighbours."""
    n, n_features = max(0, len(frames) - 2 * context), frames.shape[1]
    if not n:
        return np.empty((0, (2 * context + 1) * n_features), frames.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(frames, 2 * context + 1, axis=0)
    return windows.transpose(0, 2, 1).reshape(n, -1)


def grouping(lengths: Sequence[int], n_partitions: int) -> list[range]:
    """Divide a sequence of utterances into consecutive groups with numbers of frames as equal as possible.

    Each boundary is placed where the number of frames before it is nearest to its share. No group is empty, so there
    are at most as many groups as utterances.

    Parameters
    ----------
    lengths : sequence of int
        Number of frames of each utterance.
    n_partitions : int
        Requested number of groups.

    Returns
    -------
    list of range
        Numbers of the utterances in each group.
    """
    n_groups = min(n_partitions, len(lengths))
    ends = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))])
    cuts = [0]
    for j in range(1, n_groups):
        share = ends[-1] * j / n_groups
        above = int(np.searchsorted(ends, share))
        nearest = above - 1 if above and share - ends[above - 1] <= ends[above] - share else above
        cuts.append(min(max(nearest, cuts[-1] + 1), len(lengths) - (n_groups - j)))
    cuts.append(len(lengths))
    return [range(first, stop) for first, stop in pairwise(cuts)]
