"""Assigns partitions to workers, and arranges the workers that relay rounds to others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hfnumba.engine.cluster.messages import Branch


def assign(partitions: Iterable[int], threads: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Contiguous runs of partitions for each worker, in proportion to its threads; workers by address."""
    todo, total = list(partitions), sum(threads.values())
    runs, done, weight = {}, 0, 0
    for address in sorted(threads):
        weight += threads[address]
        end = len(todo) * weight // total
        if end > done:
            runs[address] = tuple(todo[done:end])
        done = end
    return runs


def arrange(branches: Sequence[Branch], fan_in: int, first: int = 0) -> tuple[Branch, ...]:
    """Put branches below each other so that at most ``fan_in`` are at the top, and below each.

    Each has a contiguous run below it that begins at a multiple of a power of two, counted from ``-first``. So where
    partitions are shared out evenly among a power of two of workers, the sum of a family is one node of the tree.
    """
    n, size = len(branches), 1
    if n <= fan_in:
        return tuple(branches)
    while len(cuts := [0, *range(size - first % size, n, size), n]) - 1 > fan_in:
        size *= 2
    return tuple(
        replace(branches[start], below=arrange(branches[start + 1 : stop], fan_in, first + start + 1))
        for start, stop in itertools.pairwise(cuts)
    )
