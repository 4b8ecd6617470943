"""Sources of data, one module per format.

Modules for rows have ``read(recipe, paths, seed, reporter) -> RawData``, modules for speech
``open_corpus(recipe, paths, seed, reporter) -> Corpus``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from hfnumba.ingest.corpus import Corpus
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.raw import RawData
from hfnumba.progress import SILENT, Reporter


class Source(Protocol):
    """Interface of a module for a format of rows."""

    def read(self, recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
        """Read the arrays of a data set.

        Parameters
        ----------
        recipe : Recipe
        paths : mapping of str to Path
            Path of each file of the recipe, by its name.
        seed : int
            Seed of the hold-out, for sources without a test split.
        reporter : Reporter
            Receiver of messages and progress.

        Raises
        ------
        DataError
            If a file does not fit its format, its header or the recipe.
        """
        ...


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter = SILENT) -> RawData:
    """Read the arrays of a data set with the source that its recipe names."""
    source: Source = import_module(f"{__name__}.{recipe.format}")
    return source.read(recipe, paths, seed, reporter)


class CorpusSource(Protocol):
    """Interface of a module for a format of speech."""

    def open_corpus(self, recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> Corpus:
        """Find the utterances of a corpus; a note names those that are left out.

        Parameters are those of :meth:`Source.read`.

        Raises
        ------
        DataError
            If the corpus does not fit its format or the recipe.
        """
        ...


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter = SILENT) -> Corpus:
    """Open a corpus with the source that its recipe names."""
    source: CorpusSource = import_module(f"{__name__}.{recipe.format}")
    return source.open_corpus(recipe, paths, seed, reporter)
