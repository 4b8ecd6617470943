"""Sources, one module a format.

Sources of rows have ``read(recipe, paths, seed, watch) -> RawData``, sources of speech
``open_corpus(recipe, paths, seed, say) -> Corpus``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from hfnumba.ingest.corpus import Corpus, Say
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.raw import RawData
from hfnumba.progress import Watch, unwatched


class Source(Protocol):
    """What a module of this package offers."""

    def read(self, recipe: Recipe, paths: Mapping[str, Path], seed: int, watch: Watch) -> RawData:
        """Read the arrays of a data set.

        Parameters
        ----------
        recipe : Recipe
        paths : mapping of str to Path
            Where each file of the recipe lies, by its name.
        seed : int
            Key of the hold-out, for sources that come without a test split.
        watch : callable
            Told how far each step has come.

        Raises
        ------
        DataError
            If a file is not what its format, its header or the recipe says.
        """
        ...


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, watch: Watch = unwatched) -> RawData:
    """Read the arrays of a data set with the source that its recipe names."""
    source: Source = import_module(f"{__name__}.{recipe.format}")
    return source.read(recipe, paths, seed, watch)


class CorpusSource(Protocol):
    """What a module of this package for speech offers."""

    def open_corpus(self, recipe: Recipe, paths: Mapping[str, Path], seed: int, say: Say) -> Corpus:
        """Find the utterances of a corpus.

        Parameters are those of :meth:`Source.read`; ``say`` is called with what a user should know of what was left
        out.

        Raises
        ------
        DataError
            If the corpus is not what its format or the recipe says.
        """
        ...


def open_corpus(recipe: Recipe, paths: Mapping[str, Path], seed: int, say: Say) -> Corpus:
    """Open a corpus with the source that its recipe names."""
    source: CorpusSource = import_module(f"{__name__}.{recipe.format}")
    return source.open_corpus(recipe, paths, seed, say)
