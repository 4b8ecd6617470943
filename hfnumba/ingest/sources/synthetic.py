"""Synthetic speech of any size, for measurements of speed and memory; accuracies on it mean nothing.

Features are smooth in time, like log-mel energies. Classes are the outputs of a random network (the teacher) for a
frame with its context, with a prior that makes a few classes frequent and most rare, like the states of a speech
recogniser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from threadpoolctl import ThreadpoolController

from hfnumba.ingest.recipe_tables import SyntheticOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.progress import Reporter
from hfnumba.store.frames import splice
from hfnumba.store.manifest import SourceFile

UTTERANCE_FRAMES = 300
N_HIDDEN = 64
SMOOTHNESS = 0.9
"""Correlation of neighbouring frames."""

LOGIT_SCALE = 3.0
PRIOR_DECAY = 0.7
"""The teacher's prior of the k-th class is proportional to ``(1 + k) ** -PRIOR_DECAY``."""

STEP = 2.0**-16
"""Features are rounded to multiples of this, and the teacher computes in float64, so that all machines agree."""


@dataclass(frozen=True)
class SyntheticCorpus:
    """Utterances computed from their numbers."""

    options: SyntheticOptions
    context: int

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Names such as ``train-000000000``; the last utterance of a split is shorter."""
        sizes = {"train": self.options.train_rows, "test": self.options.test_rows}
        return {split: [f"{split}-{i:09}" for i in range(-(-n // UTTERANCE_FRAMES))] for split, n in sizes.items() if n}

    @property
    def classes(self) -> tuple[str, ...]:
        """No names; the classes have only numbers."""
        return ()

    @property
    def n_classes(self) -> int:
        """Number of classes, from the recipe."""
        return self.options.n_classes

    @cached_property
    def _pools(self) -> Any:
        return ThreadpoolController()

    @cached_property
    def _teacher(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Weights of the hidden layer and of the output layer, and the logarithm of the prior."""
        width = self.options.n_features * (2 * self.context + 1)
        rng = self._random("teacher", 0)
        first = rng.standard_normal((width, N_HIDDEN)) * (1.5 / np.sqrt(width))
        second = rng.standard_normal((N_HIDDEN, self.n_classes)) * (LOGIT_SCALE / np.sqrt(N_HIDDEN))
        return first, second, -PRIOR_DECAY * np.log1p(np.arange(self.n_classes))

    def load(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Compute an utterance, which depends on nothing but the recipe and its name."""
        split, _, digits = name.partition("-")
        number = int(digits)
        n_rows = self.options.train_rows if split == "train" else self.options.test_rows
        n = min(UTTERANCE_FRAMES, n_rows - number * UTTERANCE_FRAMES)
        rng = self._random(split, number)
        noise = rng.standard_normal((n, self.options.n_features))
        start = rng.standard_normal((1, self.options.n_features)) * SMOOTHNESS
        smooth, _ = lfilter([np.sqrt(1 - SMOOTHNESS**2)], [1, -SMOOTHNESS], noise, axis=0, zi=start)
        X = (np.round(smooth / STEP) * STEP).astype(np.float32)
        first, second, prior = self._teacher
        begins = np.zeros(n, np.uint8)
        begins[0] = 1
        # Products this small gain nothing from threads, and lose much when other processes use the cores.
        with self._pools.limit(limits=1, user_api="blas"):
            hidden = np.tanh(splice(X, begins, self.context).astype(np.float64) @ first)
            logits = hidden @ second
        logits += prior
        return X, np.argmax(logits, axis=1)

    def speaker(self, name: str) -> str | None:
        """No speaker; returns None."""
        return None

    def sources(self, reporter: Reporter) -> tuple[SourceFile, ...]:
        """One record without a file: the digest of the settings that the rows are computed from."""
        settings = msgspec.json.encode((self.options, self.context))
        return (SourceFile("synthetic", len(settings), hashlib.sha256(settings).hexdigest()),)

    def _random(self, purpose: str, number: int) -> np.random.Generator:
        key = np.random.SeedSequence(self.options.seed, spawn_key=(*purpose.encode(), number))
        return np.random.Generator(np.random.Philox(key))


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> SyntheticCorpus:
    """Open the corpus; the seed of the recipe makes the rows, the seed of the build only shuffles them."""
    return SyntheticCorpus(recipe.synthetic or SyntheticOptions(), recipe.context)
